"""Decoded sound as float samples, at any rate."""

from typing import Any

import numpy as np
from av.audio.resampler import AudioResampler

from shared.data.media_write import Audio, audio_frame


def float_samples(frame: Any) -> Audio:
    """float32 [channels, n] of a decoded frame, whatever its sample format."""
    raw = frame.to_ndarray()
    if not frame.format.is_planar:
        raw = raw.reshape(-1, frame.layout.nb_channels).T
    if raw.dtype.kind == "f":
        return raw.astype(np.float32)
    scale = 2.0 ** (8 * raw.dtype.itemsize - 1)
    return ((raw - (scale if raw.dtype.kind == "u" else 0.0)) / scale).astype(np.float32)


def resample(samples: Audio, source: int, target: int) -> Audio:
    """Band-limited, [channels, n] -> [channels, round(n * target / source)]; sample 0 stays at time 0."""
    if source == target:
        return samples
    count = max(1, round(samples.shape[1] * target / source))
    result = np.zeros((len(samples), count), np.float32)
    for channel, output in zip(samples, result, strict=True):
        resampler = AudioResampler("fltp", "mono", target, options={"filter_size": "64"})
        frames = [*resampler.resample(audio_frame(channel[None], source, 0)), *resampler.resample(None)]
        joined = np.concatenate([result[0, :0], *(frame.to_ndarray()[0] for frame in frames)])[:count]
        output[: len(joined)] = joined
    return result
