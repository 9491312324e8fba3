"""Encoders of conditions: text, and features of sound."""

from typing import TYPE_CHECKING

from shared.utils.lazy import lazy

if TYPE_CHECKING:
    from shared.encoders.audio import AudioFeatures, LogMel, audio_features
    from shared.encoders.base import TextEncoder
    from shared.encoders.text import HashedWords

_MODULES = {"TextEncoder": "base", "HashedWords": "text"}
__all__ = ["AudioFeatures", "HashedWords", "LogMel", "TextEncoder", "audio_features"]
__getattr__ = lazy(__name__, {name: f"{__name__}.{_MODULES.get(name, 'audio')}" for name in __all__})
