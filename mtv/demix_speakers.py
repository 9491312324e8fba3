"""Who speaks in the clips of a manifest that is taken apart: told, and measured against the clips' own tracks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mtv.speakers import Spans
from shared.data.manifest import Clip
from shared.data.media import is_silent, read_audio
from shared.perception.pitch import HOP, RATE
from shared.perception.speakers import loud
from shared.perception.turns import speaker_error
from shared.utils.markdown import markdown_table

TOLD = 5  # clips by name


class SpeakerScore(NamedTuple):
    """People who speak in truth and as found; frames that went wrong, and frames of speech."""

    true: int
    found: int
    wrong: int
    frames: int


def tell_speakers(heard: Mapping[str, Mapping[str, Spans]]) -> str:
    """Say, of who speaks when by clip, in how many clips how many people were found, and where two voices sound at
    once."""
    counts = Counter(len(spans) - 1 for spans in heard.values())
    lines = ["people who speak: " + ", ".join(f"{count} in {clips} clips" for count, clips in sorted(counts.items()))]
    if both := [name for name, spans in heard.items() if spans["overlap"]]:
        seconds = sum(end - first for name in both for first, end in heard[name]["overlap"])
        more = f" and {len(both) - TOLD} more" if len(both) > TOLD else ""
        named = ", ".join(both[:TOLD]) + more
        lines.append(f"two voices at once, which are not parted: {seconds:.1f} s in {len(both)} clips ({named})")
    return "\n".join(lines)


def speakers_table(scores: Sequence[SpeakerScore]) -> str:
    """Tell, by how many people speak in truth, of how many clips as many were found, and the diarisation error: its
    mean over frames, its median over clips, and its mean where as many were found."""
    head = ["people who speak", "clips", "as many found", "error (median)", "error where as many were found"]
    rows = []
    for count in sorted({score.true for score in scores}):
        here = [score for score in scores if score.true == count]
        right = [score for score in here if score.found == count]
        median = float(np.median([score.wrong / score.frames for score in here]))
        rows.append([count, len(here), len(right), f"{_share_wrong(here)} ({median:.1%})", _share_wrong(right)])
    return markdown_table(head, rows).rstrip()


def measure_speakers(clip: Clip, heard: Mapping[str, Spans]) -> SpeakerScore | None:
    """Compare who speaks when with the clip's own speech tracks; None where these are silent."""
    files = [path for name, path in clip.tracks.items() if name.startswith("speech")]
    sounds = [read_audio(path, RATE, True, clip.start, clip.end)[0] for path in files]
    rows = [loud(sound) for sound in sounds if not is_silent(sound)]
    if not rows:
        return None
    count = max(map(len, rows))
    true = np.array([np.pad(row, (0, count - len(row))) for row in rows])
    spans = [theirs for name, theirs in heard.items() if name != "overlap"]
    found = np.zeros((len(spans), count), bool)
    for row, theirs in zip(found, spans, strict=True):
        for first, end in theirs:
            row[round(first * RATE / HOP) : round(end * RATE / HOP)] = True
    return SpeakerScore(len(true), len(found), *speaker_error(true, found))


def _share_wrong(scores: Sequence[SpeakerScore]) -> str:
    frames = sum(score.frames for score in scores)
    return f"{sum(score.wrong for score in scores) / frames:.1%}" if frames else "-"
