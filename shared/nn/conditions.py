"""What a stream is told beside its latents: noise level and text, as Wan embeds them, and what may be added to these.

`frame_rate`: the rate of the latents (`shared.nn.frame_rate`). `average`: the noise level `until` which the stream
predicts the average velocity; up to its own noise level that is the velocity itself (docs/design.md, "Few steps").
What is added starts at zero, so a new one is Wan's to the bit.
"""

from __future__ import annotations

import torch
from diffusers.models.embeddings import TimestepEmbedding
from diffusers.models.transformers.transformer_wan import WanTimeTextImageEmbedding
from torch import Tensor, nn

from shared.nn.frame_rate import PERIODS, rate_features


class ConditionEmbedding(WanTimeTextImageEmbedding):
    """Wan's embedding of noise level and text, whose time embedding may tell more."""

    def __init__(
        self, width: int, freq_dim: int, modulation_dim: int, text_dim: int, frame_rate: bool, average: bool
    ) -> None:
        super().__init__(width, freq_dim, modulation_dim, text_dim)
        self.rate_embedder = self.until_embedder = None
        if frame_rate:
            self.rate_embedder = nn.Linear(2 * len(PERIODS), width, bias=False)
            nn.init.zeros_(self.rate_embedder.weight)
        if average:
            self.until_embedder = TimestepEmbedding(in_channels=freq_dim, time_embed_dim=width)
            nn.init.zeros_(self.until_embedder.linear_2.weight)
            nn.init.zeros_(self.until_embedder.linear_2.bias)

    def forward(
        self, timestep: Tensor, encoder_hidden_states: Tensor, timestep_seq_len: int, rate: float | None = None,
        until: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, None]:  # fmt: skip
        """Embed times [B·T] (sigma · 1000) and text [B, L, text_dim] at `rate` latents a second, `until` times [B·T].

        Returns the time embedding [B, T, D], its projection [B, T, 6D], the text [B, L, D] and, for an image, nothing.
        """
        time = self._embedded(self.time_embedder, timestep, timestep_seq_len)
        if self.rate_embedder is not None:
            assert rate is not None, "a stream with frame_rate is told it"
            features = torch.tensor(rate_features(rate), dtype=self.rate_embedder.weight.dtype, device=time.device)
            time = time + self.rate_embedder(features)
        if self.until_embedder is not None:
            assert until is not None, "a stream with average is told until when"
            time = time + self._embedded(self.until_embedder, until, timestep_seq_len)
        time = time.type_as(encoder_hidden_states)
        return time, self.time_proj(self.act_fn(time)), self.text_embedder(encoder_hidden_states), None

    def _embedded(self, embedder: nn.Module, times: Tensor, length: int) -> Tensor:
        waves = self.timesteps_proj(times).unflatten(0, (-1, length))
        embedded: Tensor = embedder(waves.to(next(embedder.parameters()).dtype))
        return embedded
