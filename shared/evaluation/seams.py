"""Validity around a seam and elsewhere: at the cut between two shots, or where given seconds end or begin again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.bootstrap import interval, resample
from shared.evaluation.measures import SceneClip
from shared.evaluation.scores import Array, score_over_clips
from shared.evaluation.validity import Limits, Window, limits, validity
from shared.puppets.clip import told_by_captions
from shared.utils.rng import numpy_generator

AROUND = 0.25
"""Seconds on each side of a seam that are around it."""
NAMES = ("validity_cut", "validity_elsewhere")
RETAKEN = 0.35, 0.65
"""Of a clip, about: from where to where it is made again."""


def retaken(clock: Any) -> tuple[float, float]:
    """Seconds of a clip that are made again, about RETAKEN: whole latents of its `shared.nn.clock.LatentClock`."""
    first, last = (round(share * len(clock)) for share in RETAKEN)
    return clock.starts[first], clock.starts[last]


def around(frames: int, fps: float, seams: Sequence[float]) -> tuple[Window, Window]:
    """Frames of a clip that are within AROUND of one of `seams` (seconds), and those elsewhere, bool [T] each."""
    centres = (np.arange(frames) + 0.5) / fps
    near = np.zeros(frames, bool)
    for seam in seams:
        near |= np.abs(centres - seam) <= AROUND
    return near, ~near


def seam_scores(
    sampled: Sequence[SceneClip], true: Sequence[SceneClip], inside: Sequence[tuple[Window, Window]],
    groups: Sequence[int], seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Measure validity in two windows of each clip: around a seam and elsewhere. Clips of a group count together.

    Each window has a floor (the next clip's drawing) and a ceiling in dB of its own, from true clips through the
    codecs: a codec is less exact at a cut. "scores", per group, as those of `measures`; "ratio", the headline around
    the seam over that elsewhere, with its 95 % bootstrap interval over groups; None without a headline.
    """
    tables: list[Array] = []
    for which in range(2):
        frames = [windows[which] for windows in inside]
        between = limits([clip.scene for clip in true], frames)
        others = [clip.scene for clip in (*sampled[1:], *sampled[:1])]
        drawn: tuple[tuple[Sequence[SceneClip], Sequence[Any]], ...] = (
            (sampled, [None] * len(sampled)), (true, [None] * len(true)), (sampled, others),
        )  # fmt: skip
        tables.extend(_by_group(clips, scenes, frames, between, groups) for clips, scenes in drawn)
    picks = resample(numpy_generator(seed, "bootstrap"), len(tables[0]))
    scores = {}
    for name, (own, best, chance) in zip(NAMES, (tables[:3], tables[3:]), strict=True):
        scores[name] = score_over_clips(own, best, chance, picks)
    everyone = np.arange(len(tables[0]))[None]
    value = float(_ratio(tables, everyone)[0])
    return {
        "scores": {name: asdict(score) for name, score in scores.items()},
        "ratio": {"value": value if np.isfinite(value) else None, "interval": interval(_ratio(tables, picks))},
    }


def _by_group(
    clips: Sequence[SceneClip], drawn: Sequence[Any], inside: Sequence[Window], between: Limits, groups: Sequence[int]
) -> Array:
    """Sum up validity and of clips, [groups, 2]."""
    order = sorted({*groups})
    sums = np.zeros((len(order), 2))
    for clip, scene, window, group in zip(clips, drawn, inside, groups, strict=True):
        sums[order.index(group)] += validity(clip.scene, told_by_captions(clip.spec), between, scene, window)
    return sums


def _ratio(tables: Sequence[Array], picks: NDArray[np.int_]) -> Array:
    """Headline around the cut over that elsewhere, for each draw of shows."""
    heads = []
    for value, ceiling, floor in (tables[:3], tables[3:]):
        own, best, chance = (table[picks].sum(1) for table in (value, ceiling, floor))
        own, best, chance = (sums[:, 0] / sums[:, 1] for sums in (own, best, chance))
        heads.append(np.divide(own - chance, best - chance, out=np.full(len(own), np.nan), where=best - chance > 1e-9))
    return np.divide(heads[0], heads[1], out=np.full(len(picks), np.nan), where=heads[1] > 1e-9)
