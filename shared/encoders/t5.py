"""T5 as CogVideoX uses it: prompts -> the embeddings that a CogVideoX transformer was trained on."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor
from transformers import T5EncoderModel

from shared.encoders.umt5 import UMT5Text
from shared.nn.memory_alignment import AlignedModelMixin


class T5Text(UMT5Text, AlignedModelMixin, ModelMixin):
    """`transformers.T5EncoderModel` with its tokenizer, loaded and saved as `UMT5Text`.

    CogVideoX's recipe: the prompt as it is, cut or padded to `max_length` tokens (226), all of which the encoder and
    the transformer attend to. So there are no zeros after the last token, which `TextEncoder` promises of others: what
    stands there is the padding's embedding. Each prompt is run alone. Frozen.
    """

    kind: ClassVar[Any] = T5EncoderModel
    name: ClassVar[str] = "T5"

    @apply_forward_hook
    @torch.no_grad()
    def encode(self, prompts: list[str]) -> Tensor:
        """float32 [B, max_length, dim]. Longer prompts are cut, with a warning."""
        out = torch.zeros(len(prompts), self.max_length, self.dim, device=self.device)
        with torch.autocast(self.device.type, enabled=False):
            for row, prompt in zip(out, prompts, strict=True):
                tokens = self._tokens(prompt)
                tokens = tokens + [self.tokenizer.pad_token_id] * (self.max_length - len(tokens))
                row.copy_(self.model(torch.tensor([tokens], device=self.device)).last_hidden_state[0])
        return out
