"""Encoders of conditions: text, and features of sound."""

from shared.encoders.audio import AudioFeatures, LogMel, audio_features
from shared.encoders.base import TextEncoder
from shared.encoders.text import HashedWords

__all__ = ["AudioFeatures", "HashedWords", "LogMel", "TextEncoder", "audio_features"]
