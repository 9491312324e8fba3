"""Codecs: pixels and sound <-> latents with a clock. `base` has the protocols, `linear`, `convolutional` are ours."""

from typing import TYPE_CHECKING

from shared.utils.lazy import lazy

if TYPE_CHECKING:
    from shared.codecs.base import AudioCodec, Codecs, VideoCodec, frames_to_tensor, keyframe_latents, tensor_to_frames
    from shared.codecs.convolutional import ConvVideoCodec
    from shared.codecs.linear import LinearAudioCodec, LinearVideoCodec

__all__ = [
    "AudioCodec", "Codecs", "ConvVideoCodec", "LinearAudioCodec", "LinearVideoCodec", "VideoCodec", "frames_to_tensor",
    "keyframe_latents", "tensor_to_frames",
]  # fmt: skip
_ROOMS = {"ConvVideoCodec": "convolutional", "LinearAudioCodec": "linear", "LinearVideoCodec": "linear"}
__getattr__ = lazy(__name__, {name: f"{__name__}.{_ROOMS.get(name, 'base')}" for name in __all__})
