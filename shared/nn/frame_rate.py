"""The frame rate of a video stream: features of its latents' rate, embedded and added to the noise level's embedding
(`shared.nn.conditions`).

Video alone does not tell how fast it is: the same latents are a slow picture at 12 frames a second and a fast one at 30
(docs/design.md, "Frame rate").
"""

import math

#: Octaves of the rate after which a wave repeats. From 12 to 30 frames a second the fastest turns by less than half a
#: circle: the further two rates, the further their features, and a rate between those of the training lies between.
PERIODS = (3.0, 6.0, 12.0, 24.0)


def rate_features(rate: float) -> list[float]:
    """Cosine and sine of log2 of a rate (latents a second) at each of `PERIODS`: equal ratios are equal steps."""
    angles = [2 * math.pi * math.log2(rate) / period for period in PERIODS]
    return [wave(angle) for wave in (math.cos, math.sin) for angle in angles]
