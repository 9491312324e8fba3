"""The sound that an audio-driven video carries: a file as it is, or the sum of its tracks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from shared.checkpoint.loading import SHORT
from shared.data.channels import named_layout, spread
from shared.data.given import given_sound
from shared.data.media import MediaInfo, probe, read_audio, read_channels
from shared.data.media_write import (
    FLAC_CHANNELS,
    Audio,
    Video,
    picture_source,
    sound_source,
    write_lossless,
    write_streams,
    written_rate,
)
from shared.utils.errors import UserError

MOST_CHANNELS = 16


@dataclass(frozen=True)
class Sound:
    """The sound of the video, [channels, N] float32 at `rate` Hz, its layout, and how long the video lasts in seconds.

    `given`: the one file that the video carries as it is; None where the video carries the samples.
    """

    samples: Audio
    rate: int
    layout: str
    duration: float
    given: Path | None = None
    track: int | None = None

    @classmethod
    def read(cls, files: Sequence[Path], track: int | None, asked: float | None) -> Sound:
        """Read one file, or the sum of several at their highest rate, as long as the longest, turned down to full
        scale; of the seconds that are `asked` for, if any. UserError if unfit."""
        infos = [probe(file, track) for file in files]
        for info in infos:
            if not info.has_audio:
                raise UserError(f"{info.path}: has no sound; a file with sound is needed")
        rate = written_rate(info.rate or 0 for info in infos)
        # a mix is taken apart in one channel or two; tracks are summed in the layout of that which has most channels
        layouts = [_summed_layout(info, 2 if len(infos) == 1 else MOST_CHANNELS) for info in infos]
        parts = [
            read_audio(info.path, rate, layout == "mono", 0.0, asked, track)
            for info, layout in zip(infos, layouts, strict=True)
        ]
        layouts = ["mono" if len(part) == 1 else layout for part, layout in zip(parts, layouts, strict=True)]
        widest = layouts[int(np.argmax([len(part) for part in parts]))]
        count = max(part.shape[1] for part in parts)
        if asked is not None and asked > count / rate + SHORT:
            told = f"{files[0]}: the sound lasts {count / rate:.2f} s"
            raise UserError(f"{told}; --duration {asked:g} is longer, lower it")
        samples = np.zeros((max(len(part) for part in parts), count), np.float32)
        for part, layout in zip(parts, layouts, strict=True):
            samples[:, : part.shape[1]] += spread(part, layout, widest)
        samples /= max(1.0, float(np.abs(samples).max()))
        duration = count / rate if asked is None else asked
        given = files[0] if len(files) == 1 else None
        if given is not None:
            given_sound(given, track, Fraction(duration))  # so that it is known now whether the video can carry it
        return cls(samples, rate, widest, duration, given, track)

    def exact(self) -> tuple[Audio, int, str]:
        """Give the samples [channels, N], of a given file all channels, their rate and layout. UserError
        unless FLAC holds so many."""
        if self.given is None:
            samples, rate, layout = self.samples, self.rate, self.layout
        else:
            samples, rate, own = read_channels(self.given, 0.0, self.duration, self.track)
            layout = named_layout(own) or ""
        if len(samples) > FLAC_CHANNELS or not layout:
            what = f"{len(samples)} channels" if layout else "its channels have no names"
            raise UserError(f"{self.given or 'the tracks'}: {what}; --lossless takes up to {FLAC_CHANNELS} with names")
        return samples, rate, layout

    def write(self, path: Path, frames: Video, fps: float, lossless: bool = False) -> None:
        """Write the video `frames` with this sound; `lossless`: as FFV1 and FLAC in an mkv."""
        if lossless:
            write_lossless(path, frames, fps, *self.exact())
            return
        pictures, speed = picture_source(path, frames, fps)
        seconds, rate = len(frames) / speed, self.rate
        if self.given is None:
            sound = sound_source(self.samples, rate, self.layout, seconds)
        else:
            sound, rate = given_sound(self.given, self.track, seconds), probe(self.given, self.track).rate or rate
        write_streams(path, [pictures, sound], rate)


def _summed_layout(info: MediaInfo, most: int) -> str:
    """Layout in which a file's sound is read: its own, if that has a name and at most so many channels."""
    channels, layout = info.channels or 1, named_layout(info.layout or "mono")
    return layout if layout is not None and channels <= most else "mono"
