"""Codecs: pixels and sound <-> latents with a clock. `base` has the protocols, `linear` the embedded default."""

from typing import TYPE_CHECKING

from shared.utils.lazy import lazy

if TYPE_CHECKING:
    from shared.codecs.base import AudioCodec, Codecs, VideoCodec, frames_to_tensor, keyframe_latents, tensor_to_frames
    from shared.codecs.linear import LinearAudioCodec, LinearVideoCodec

__all__ = [
    "AudioCodec", "Codecs", "LinearAudioCodec", "LinearVideoCodec", "VideoCodec", "frames_to_tensor",
    "keyframe_latents", "tensor_to_frames",
]  # fmt: skip
__getattr__ = lazy(__name__, {name: f"{__name__}.{'linear' if 'Linear' in name else 'base'}" for name in __all__})
