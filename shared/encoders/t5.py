"""T5 as CogVideoX uses it: prompts -> the embeddings that a CogVideoX transformer was trained on."""

from typing import Any, ClassVar

from diffusers.models.modeling_utils import ModelMixin
from transformers import T5EncoderModel

from shared.encoders.umt5 import UMT5Text


class T5Text(UMT5Text, ModelMixin):
    """`transformers.T5EncoderModel` with its tokenizer, loaded and saved as `UMT5Text`.
    CogVideoX's recipe: the prompt as it is, cut or padded to `max_length` tokens (226), all of which are attended to:
    after the last token stands the padding's embedding, not zeros as `TextEncoder` promises of others."""

    kind: ClassVar[Any] = T5EncoderModel
    name: ClassVar[str] = "T5"

    def _tokens(self, prompt: str) -> list[int]:
        tokens = self._cut(prompt)
        return tokens + [self.tokenizer.pad_token_id] * (self.max_length - len(tokens))
