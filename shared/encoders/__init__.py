"""Encoders of conditions: text, and features of sound."""

from typing import TYPE_CHECKING

from shared.utils.lazy import lazy

if TYPE_CHECKING:
    from shared.encoders.audio import AudioFeatures, LogMel, audio_features
    from shared.encoders.text import HashedWords, TextEncoder

__all__ = ["AudioFeatures", "HashedWords", "LogMel", "TextEncoder", "audio_features"]
_TEXT = ("HashedWords", "TextEncoder")
__getattr__ = lazy(__name__, {name: f"{__name__}.{'text' if name in _TEXT else 'audio'}" for name in __all__})
