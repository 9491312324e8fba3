"""Does a long clip stay in step? Events and mouths of each stretch of it, picture against sound, and how they drift."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.bootstrap import over_clips
from shared.evaluation.event_scores import TOLERANCE, match
from shared.evaluation.scores import correlation
from shared.puppets.clip import audio_caption, caption
from shared.puppets.readers import read_picture, read_sound
from shared.puppets.script import HELD_OUT_SEED, Spec, sample_spec

STRETCH = 10.0  # s
SCORES = ("agreement", "mouths")


def told_scripts(fps: int) -> Iterator[tuple[Spec, str, str]]:
    """Yield scripts of held-out clips, with both captions, in which somebody speaks and something happens in sight."""
    for index in count():
        spec = sample_spec(HELD_OUT_SEED, index, "simple", fps=fps)
        speaks = [one for one in spec.characters if one.visible and one.syllables]
        if len(speaks) == len(spec.characters) == 1 and any(prop.visible and prop.onsets for prop in spec.props):
            yield spec, caption(spec), audio_caption(spec)


def by_stretch(
    frames: NDArray[np.uint8], sound: NDArray[np.float32], rate: int, spec: Spec, stretch: float = STRETCH
) -> list[dict[str, float | None]]:
    """Read a clip of this script, made long, and give the scores of each `stretch` seconds of it: agreement, the F1 of
    events seen and heard, None where there are none; mouths, correlation of opening and loudness. What is left over at
    the end counts if it is half as long."""
    video, audio = read_picture(frames, spec.fps, spec), read_sound(sound, rate)
    lasts, found = len(frames) / spec.fps, list[dict[str, float | None]]()
    for number in range(max(1, int(lasts / stretch + 0.5))):
        begin, end = number * stretch, (number + 1) * stretch
        seen, heard = (one[(one >= begin) & (one < end)] for one in (video.onsets, audio.onsets))
        total = len(seen) + len(heard)
        times = np.arange(round(begin * spec.fps), min(len(frames), round(end * spec.fps)))
        mouth = np.sum(video.mouths, 0)[times]
        found.append({
            "agreement": 2 * len(match(seen, heard, TOLERANCE)) / total if total else None,
            "mouths": correlation(mouth, audio.loudness_at(times / spec.fps)),
        })  # fmt: skip
    return found


def drift(clips: Mapping[str, Sequence[Mapping[str, float | None]]], stretch: float = STRETCH) -> dict[str, Any]:
    """By score and stretch, `over_clips` of all clips; and of its slope, the change in a minute of a line through each
    clip's stretches: a clip whose interval holds 0 stays in step."""
    found: dict[str, Any] = {}
    longest = max(len(parts) for parts in clips.values())
    for name in SCORES:
        of = found[name] = dict[str, Any]()
        for number in range(longest):
            values = {clip: parts[number][name] for clip, parts in clips.items() if number < len(parts)}
            of[f"{number * stretch:g} s"] = over_clips(values)
        of["a minute"] = over_clips({clip: _slope(parts, name, stretch) for clip, parts in clips.items()})
    return found


def _slope(parts: Sequence[Mapping[str, float | None]], name: str, stretch: float) -> float | None:
    points = [(number, value) for number, part in enumerate(parts) if (value := part[name]) is not None]
    if len(points) < 2:
        return None
    minutes, values = np.array(points, dtype=np.float64).T
    return float(np.polyfit(minutes * stretch / 60, values, 1)[0])
