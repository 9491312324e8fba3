"""Codecs: pixels and sound <-> latents with a clock. `base` has the protocols, `linear` the embedded
default."""

from shared.codecs.base import AudioCodec, Codecs, VideoCodec, frames_to_tensor, keyframe_latents, tensor_to_frames
from shared.codecs.linear import LinearAudioCodec, LinearVideoCodec

__all__ = [
    "AudioCodec",
    "Codecs",
    "LinearAudioCodec",
    "LinearVideoCodec",
    "VideoCodec",
    "frames_to_tensor",
    "keyframe_latents",
    "tensor_to_frames",
]
