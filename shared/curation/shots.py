"""Films into shots: PySceneDetect or TransNet V2 finds the cuts, to the frame; PySceneDetect, fades to black.

Detectors are given the pictures that this project's reader gives, so that a cut lies on the timeline on which clips
are read later. Of a fade or dissolve nothing is kept: a shot ends before it grows dark, and begins when it is bright.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from shared.curation.config import Shots
from shared.curation.pictures import EDGE, small_pictures
from shared.curation.record import Context, Figures, Finding, Record, span_key
from shared.perception.installed import find_weights
from shared.utils.errors import UserError

SIDE = 160
"""Pixels of the longer side that detectors look at."""
MOST_FADE = 2.0
"""Seconds on each side of black that a fade lasts at most."""
STEP = 0.4
"""Change of the mean brightness from frame to frame, of 255, below which a picture does not fade."""
INSTALL = "pip install --constraint constraints.txt 'ccl[curation]'"


Edge = tuple[int, int]
"""The frame after the last of a shot, and the first of the next."""


class Fade(NamedTuple):
    """Frames of a fade: it is dark at `middle`, and frames from `first` to `last` are not as bright as the shots."""

    first: int
    middle: int
    last: int


@dataclass
class _Seen:
    """What is kept of a film's pictures: their times, and their mean brightness."""

    times: list[float] = field(default_factory=list)
    brightness: list[float] = field(default_factory=list)
    end: float = 0.0


def find_shots(record: Record, context: Context) -> Finding:
    """Find the shots of a film. `spans` of the figures: start, end, and cause and reason of those that are dropped."""
    settings = context.config.shots
    seen, edges, black = _watched(record, settings)
    count = len(seen.times)
    fades = [_extent(seen, at) for at in black]
    inside = [range(fade.first - 1, fade.last + 2) for fade in fades]
    edges = [edge for edge in edges if not any({*edge} & {*frames} for frames in inside)]
    edges = [(end, begin) for end, begin in edges if end > 0 and begin < count]
    cuts = [begin for end, begin in edges if end == begin]
    spans = _spans(seen, edges, fades)
    figures = {
        "frames": count, "cuts": cuts, "cut_times": [seen.times[cut] for cut in cuts],
        "dissolves": [[seen.times[end], seen.times[begin]] for end, begin in edges if end < begin],
        "fades": [[seen.times[max(0, f.first)], seen.times[min(f.last, count - 1)]] for f in fades],
        "spans": [list(span) for start, end in spans for span in _fitting(seen, start, end, settings)],
    }  # fmt: skip
    return Finding(figures=figures)


def records_of(film: Record, figures: Figures) -> list[tuple[Record, Finding]]:
    """Make a record of each of a film's shots, with what is said of its length."""
    made = []
    for start, end, cause, reason in figures["spans"]:
        key = span_key(film.source_key, start, end)
        clip = Record(key, film.source, film.source_key, start, end, film.licence)
        made.append((clip, Finding("drop" if cause else "keep", cause, reason)))
    return made


def _watched(record: Record, settings: Shots) -> tuple[_Seen, list[Edge], list[int]]:
    """Look at a film once: its pictures' times, where shots end and begin, and frames in the middle of black."""
    seen, cuts, black, probable = _Seen(), list[int](), list[int](), list[float]()
    transitions = _transitions() if settings.detector == "transnetv2" else None
    detectors: list[tuple[Any, list[int]]] = []
    scenes, rate = None, 0.0
    if settings.detector != "none":
        scenes = library()
        detectors = [(_fade_detector(scenes, settings), black)]
        detectors += [] if transitions else [(_detector(scenes, settings), cuts)]
        rate = _rate(record)
    at = None
    for number, picture in enumerate(small_pictures(record.source, record.start, record.end, SIDE)):
        seen.times.append(picture.time)
        seen.brightness.append(float(picture.pixels.mean()))
        seen.end = picture.time + picture.length
        if transitions is not None:
            probable += transitions.take(picture.pixels)
        if scenes is not None:
            at = scenes.FrameTimecode(number, rate)
            pixels = np.ascontiguousarray(picture.pixels[..., ::-1])  # blue first
            for detector, found in detectors:
                found += [one.frame_num for one in detector.process_frame(at, pixels)]
    for detector, found in detectors:
        found += [one.frame_num for one in detector.post_process(at)]
    seen.end = min(seen.end, record.end)
    edges = [(cut, cut) for cut in sorted(set(cuts))]
    if transitions is not None:
        edges = edges_of([*probable, *transitions.rest()], settings.threshold or 0.5)
    return seen, edges, sorted(set(black))


def edges_of(probable: Sequence[float], threshold: float) -> list[Edge]:
    """Find where shots end and begin, of the probability after each frame that another shot follows. Frames between
    are of both."""
    over = np.concatenate([[False], np.asarray(probable) > threshold, [False]])
    changes = np.flatnonzero(over[1:] != over[:-1]).tolist()
    return [(first + 1, after) for first, after in zip(changes[::2], changes[1::2], strict=True)]


def _transitions() -> Any:
    from shared.perception.shots import Transitions  # torch

    return Transitions()


def _rate(record: Record) -> float:
    """Frames a second, by which the detectors count alone."""
    from shared.data.media import probe

    return probe(record.source).fps or 25.0


def check(settings: Shots) -> None:
    """Raise UserError where what finds these shots is not installed."""
    library()
    if settings.detector == "transnetv2":
        find_weights("transnetv2")


def library() -> Any:
    """Import PySceneDetect. UserError with the command that installs it."""
    try:
        return import_module("scenedetect")
    except ImportError:
        told = "finding shots needs the package scenedetect-headless, which is not installed"
        raise UserError(f"{told}; run {INSTALL}, or set shots.detector to none") from None


def _detector(scenes: Any, settings: Shots) -> Any:
    least = 1  # frames: how short a shot may be is decided later, and told
    if settings.detector == "content":
        return scenes.ContentDetector(threshold=settings.threshold or 27.0, min_scene_len=least)
    return scenes.AdaptiveDetector(
        adaptive_threshold=settings.threshold or 3.0, min_scene_len=least, min_content_val=settings.least_content
    )


def _fade_detector(scenes: Any, settings: Shots) -> Any:
    return scenes.ThresholdDetector(threshold=settings.fade_level, min_scene_len=1)


def _extent(seen: _Seen, middle: int) -> Fade:
    """Frames around black that are on their way to it, or from it."""
    light, times = seen.brightness, seen.times
    middle = min(max(middle, 0), len(light) - 1)
    first = last = middle
    while (
        first > 0
        and times[middle] - times[first] < MOST_FADE
        and _darkens(light[first - 1], light[first], light[middle])
    ):
        first -= 1
    while (
        last < len(light) - 1
        and times[last] - times[middle] < MOST_FADE
        and _darkens(light[last + 1], light[last], light[middle])
    ):
        last += 1
    return Fade(first, middle, last)


def _darkens(outer: float, inner: float, darkest: float) -> bool:
    """Whether the inner one of two frames is darker on the way to black, or black itself."""
    return outer - inner > STEP or inner - darkest <= STEP


def _spans(seen: _Seen, edges: Sequence[Edge], fades: Sequence[Fade]) -> list[tuple[int, int]]:
    """Shots as their first frame and the one after their last."""
    between = sorted([*edges, *((fade.first, fade.last + 1) for fade in fades)])
    between = [(0, 0), *between, (len(seen.times), len(seen.times))]
    return [(begin, end) for (_, begin), (end, _) in pairwise(between) if end > begin]


def _fitting(seen: _Seen, begin: int, end: int, settings: Shots) -> list[tuple[float, float, str, str]]:
    """Start, end, cause and reason of a shot, or of its equal parts where it is too long."""
    times = [*seen.times, seen.end]
    length = times[end] - times[begin]
    if length < settings.least_seconds - EDGE:
        told = f"the shot lasts {length:.2f} s; at least {settings.least_seconds:g} s are needed"
        return [(times[begin], times[end], "short", told)]
    parts = math.ceil(length / settings.most_seconds - EDGE)
    marks = np.linspace(begin, end, parts + 1).round().astype(int).tolist()
    return [(times[first], times[after], "", "") for first, after in pairwise(marks)]
