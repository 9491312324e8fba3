"""The frame rate of a video stream: an embedding of its latents' rate, added to that of the noise level.

Video alone does not tell how fast it is: the same latents are a slow picture at 12 frames a second and a fast one at 30
(docs/design.md, "Frame rate").
"""

import math

import torch
from diffusers.models.transformers.transformer_wan import WanTimeTextImageEmbedding
from torch import Tensor, nn

#: Octaves of the rate after which a wave repeats. From 12 to 30 frames a second the fastest turns by less than half a
#: circle: the further two rates, the further their features, and a rate between those of the training lies between.
PERIODS = (3.0, 6.0, 12.0, 24.0)


def rate_features(rate: float) -> list[float]:
    """Cosine and sine of log2 of a rate (latents a second) at each of `PERIODS`: equal ratios are equal steps."""
    angles = [2 * math.pi * math.log2(rate) / period for period in PERIODS]
    return [wave(angle) for wave in (math.cos, math.sin) for angle in angles]


class RatedTimeTextEmbedding(WanTimeTextImageEmbedding):
    """Wan's embedding of noise level and text, whose time embedding also tells the rate of the latents.

    The weights for it start at zero: a new one is Wan's to the bit.
    """

    def __init__(self, width: int, freq_dim: int, modulation_dim: int, text_dim: int) -> None:
        super().__init__(width, freq_dim, modulation_dim, text_dim)
        self.rate_embedder = nn.Linear(2 * len(PERIODS), width, bias=False)
        nn.init.zeros_(self.rate_embedder.weight)

    def forward(
        self, timestep: Tensor, encoder_hidden_states: Tensor, timestep_seq_len: int, rate: float
    ) -> tuple[Tensor, Tensor, Tensor, None]:
        """Embed times [B·T] (sigma · 1000) and text [B, L, text_dim] at `rate` latents a second.

        Returns the time embedding [B, T, D], its projection [B, T, 6D], the text [B, L, D] and, for an image, nothing.
        """
        times = self.timesteps_proj(timestep).unflatten(0, (-1, timestep_seq_len))
        time = self.time_embedder(times.to(next(self.time_embedder.parameters()).dtype))
        features = torch.tensor(rate_features(rate), dtype=self.rate_embedder.weight.dtype, device=time.device)
        time = (time + self.rate_embedder(features)).type_as(encoder_hidden_states)
        return time, self.time_proj(self.act_fn(time)), self.text_embedder(encoder_hidden_states), None
