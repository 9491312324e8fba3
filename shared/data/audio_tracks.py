"""Which of a file's sound tracks is meant: films have one per language, cameras one per microphone."""

from pathlib import Path
from typing import Any, NamedTuple

from av.stream import Disposition

from shared.utils.errors import UserError


class AudioTrack(NamedTuple):
    """One track as its header tells of it; `number` counts from 1."""

    number: int
    codec: str
    layout: str
    rate: int
    language: str
    title: str
    is_default: bool

    def __str__(self) -> str:
        rate, default = f"{self.rate} Hz" * (self.rate > 0), "default" * self.is_default
        words = [self.codec, self.layout, rate, self.language, self.title, default]
        return f"{self.number} ({', '.join(word for word in words if word)})"


def audio_tracks(container: Any) -> tuple[AudioTrack, ...]:
    """Tracks of sound in an open file, in its order."""
    return tuple(
        AudioTrack(
            number, *_sound_of(stream.codec_context), _language(stream), stream.metadata.get("title", ""),
            bool(stream.disposition & Disposition.default),
        )
        for number, stream in enumerate(container.streams.audio, start=1)
    )  # fmt: skip


def _sound_of(decoder: Any) -> tuple[str, str, int]:
    return ("no decoder", "", 0) if decoder is None else (decoder.name, decoder.layout.name, decoder.sample_rate)


def choose_audio(path: Path, container: Any, number: int | None = None) -> Any:
    """Find the stream of track `number`; without one that which the file calls its default, or else the first; None
    where there is no sound. UserError for a number that the file does not have."""
    streams = container.streams.audio
    if not streams:
        return None
    if number is None:
        return next((stream for stream in streams if stream.disposition & Disposition.default), streams[0])
    if not 1 <= number <= len(streams):
        there = ", ".join(map(str, audio_tracks(container)))
        raise UserError(f"{path}: has no audio track {number}; its tracks are {there}")
    return streams[number - 1]


def _language(stream: Any) -> str:
    return "" if stream.language in (None, "und") else str(stream.language)
