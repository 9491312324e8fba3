"""What every text encoder does."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class TextEncoder(Protocol):
    """Prompts -> embeddings [B, max_length, dim], zeros after the last token (Wan pads so, and masks nothing).
    The empty text is one null token, never all zeros."""

    dim: int
    max_length: int

    def encode(self, prompts: list[str]) -> Tensor:
        """Embeddings, float [B, max_length, dim] on the encoder's device, deterministic."""
