"""Encoders of conditions: text, and features of sound."""

from shared.encoders.base import TextEncoder
from shared.encoders.text import HashedWords

__all__ = ["HashedWords", "TextEncoder"]
