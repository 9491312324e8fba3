"""A small trainable transformer over the text's tokens, before a stream reads them.

Frozen encoders tell words, not who wears which shirt: hashed words do not mix at all, and large models' last layers are
made for other ends. So the field puts a few trained blocks between (LTX-2's connectors, HunyuanVideo's token refiner).
"""

import torch
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor, nn

MOST_TOKENS = 512
"""Positions are known for so many tokens."""


class TextRefiner(nn.Module):
    """`layers` pre-norm blocks of self-attention over [B, L, `width`], between the text's own tokens alone.

    What a block adds is 0 at first, so that a model to which it is given goes on as it was. Tokens that are all zeros
    are padding (`shared.encoders.text.TextEncoder`): nothing reads them, and they stay zeros."""

    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            BasicTransformerBlock(
                width, heads, width // heads, activation_fn="gelu-approximate", attention_bias=True,
                positional_embeddings="sinusoidal", num_positional_embeddings=MOST_TOKENS,
            )
            for _ in range(layers)
        )  # fmt: skip
        for block in self.blocks:
            for last in (block.attn1.to_out[0], block.ff.net[-1]):  # type: ignore[index, union-attr]
                nn.init.zeros_(last.weight)  # type: ignore[arg-type, union-attr]
                nn.init.zeros_(last.bias)  # type: ignore[arg-type, union-attr]

    def forward(self, text: Tensor) -> Tensor:
        """[B, L, width] -> the same shape. ValueError for more than MOST_TOKENS tokens."""
        if text.shape[1] > MOST_TOKENS:
            raise ValueError(f"a text of {text.shape[1]} tokens; a refiner knows positions of at most {MOST_TOKENS}")
        own = (text != 0).any(-1)
        bias = torch.zeros(own.shape, device=text.device, dtype=text.dtype).masked_fill(~own, -torch.inf)[:, None]
        x = text
        for block in self.blocks:
            x = block(x, attention_mask=bias)
        return torch.where(own[..., None], x, text)
