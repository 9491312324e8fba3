"""Who speaks when (diarisation): stretches of speech, whose voice each is, and where two voices sound at once.

    turns = diarise(sound, 2, speaker_embedder("resemblyzer"))
    turns.active                     # bool [K, T], in the order of the first words

Stretches between pauses are embedded and clustered (Ward's criterion); then each goes to the nearest speaker, where a
change costs (a Viterbi path). Nothing here separates voices: what sounds at once belongs to both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.optimize import linear_sum_assignment

from shared.perception.pitch import two_voices
from shared.perception.speakers import Array, Mask, Sound, Span, SpeakerEmbedder
from shared.perception.stretches import stretches

Labels = NDArray[np.int_]

CHANGE = 12
"""Cost of another speaker, in frames of speech that are as far from a speaker as two speakers are from each other."""
ROUNDS = 10


class Turns(NamedTuple):
    """Frames of HOP samples. `active` [K, T]: the speakers in the order of their first words. `overlap` [T]: two voices
    at once, which belong to two speakers."""

    active: Mask
    overlap: Mask


def diarise(sound: Sound, speakers: int, embedder: SpeakerEmbedder) -> Turns:
    """Find up to so many speakers in mono `sound` [N] at RATE: as many as lie apart, none where nobody speaks, and
    overlap only of several."""
    active = embedder.active(sound)
    overlap = two_voices(sound) & active
    spans = stretches(active & ~overlap, embedder.pause, embedder.longest)
    vectors = embedder.embed(sound, spans) if spans else np.zeros((0, 1))
    known: Mask = ~np.isnan(vectors[:, 0])
    if not known.any():
        return Turns(np.zeros((0, len(active)), bool), overlap)
    heard = [span for span, is_known in zip(spans, known, strict=True) if is_known]
    labels = label_speakers(vectors[known], heard, speakers, embedder)
    if not labels.any():  # one speaker: a second pitch is something else
        overlap = np.zeros_like(overlap)
        spans = stretches(active, embedder.pause)
    rows = np.zeros((labels.max() + 1, len(active)), bool)
    firsts, ends = np.array(heard).T
    for span in (*spans, *stretches(overlap)):
        nearest = np.argsort(np.maximum(span[0] - ends, firsts - span[1]).clip(0), kind="stable")
        theirs = list(dict.fromkeys(labels[nearest].tolist()))
        rows[theirs[: 2 if overlap[span[0]] else 1], slice(*span)] = True
    return Turns(rows[np.argsort(rows.argmax(1), kind="stable")], overlap)


def label_speakers(vectors: Array, spans: Sequence[Span], speakers: int, embedder: SpeakerEmbedder) -> Labels:
    """Give the speaker of each of the `spans` with `vectors` [n >= 1, D], by number: of up to so many, as few
    as it takes that no two are nearer than `embedder.apart`."""
    frames = np.array([end - first for first, end in spans], np.float64)
    for count in range(min(speakers, len(spans)), 1, -1):
        founded = _found(vectors, frames, count, embedder)
        labels = None if founded is None else _settled(founded, vectors, frames, count, embedder)
        if labels is not None:
            return labels
    return np.zeros(len(spans), int)


def _found(vectors: Array, frames: Array, count: int, embedder: SpeakerEmbedder) -> Labels | None:
    """Cluster the stretches that are long enough, without those whose cluster is too small for a speaker: one odd
    syllable is far from all others. -1: not clustered. None: there are not so many clusters."""
    founding = frames >= min(embedder.enough, np.sort(frames)[-count])
    while founding.sum() >= count:
        labels = np.full(len(frames), -1)
        labels[founding] = fcluster(linkage(vectors[founding], "ward"), count, "maxclust") - 1
        totals = np.bincount(labels[founding], frames[founding], minlength=count)
        if totals.min() >= embedder.least:
            return labels
        enough = totals[labels] >= embedder.least
        if not (founding & ~enough).any():  # vectors that are all alike are no two clusters
            return None
        founding &= enough
    return None


def _settled(labels: Labels, vectors: Array, frames: Array, count: int, embedder: SpeakerEmbedder) -> Labels | None:
    """Give each stretch to the nearest speaker, in turns with the speakers' centres. None: two are one, or one has too
    little."""
    for _ in range(ROUNDS):
        centres = _centres(vectors, frames, labels, count)
        distances = np.linalg.norm(centres[:, None] - centres, axis=2)[np.triu_indices(count, 1)]
        if distances.min() < embedder.apart:
            return None
        costs = frames[:, None] * ((vectors[:, None] - centres) ** 2).sum(2) / (distances**2).mean()
        before, labels = labels, _cheapest(costs, CHANGE)
        if np.bincount(labels, frames, minlength=count).min() < embedder.least:
            return None
        if (labels == before).all():
            break
    return labels


def speaker_error(true: Mask, found: Mask) -> tuple[int, int]:
    """Diarisation error in frames, and the frames of speech that it is a share of, between `true` [K, T] and `found`
    [L, T]: per frame, as many speakers as are missed, invented or confused, for the best pairing of speakers."""
    size = max(len(true), len(found))
    first, second = (np.pad(one, ((0, size - len(one)), (0, 0))) for one in (true, found))
    together = first.astype(np.int64) @ second.T.astype(np.int64)
    right = together[linear_sum_assignment(together, maximize=True)].sum()
    return int(np.maximum(first.sum(0), second.sum(0)).sum() - right), int(first.sum())


def _centres(vectors: Array, weights: Array, labels: Labels, count: int) -> Array:
    """Weighted mean of each speaker's vectors, brought to their mean length; [count, D]."""
    rows = []
    for number in range(count):
        mine, weight = vectors[labels == number], weights[labels == number]
        mean = np.average(mine, axis=0, weights=weight)
        rows.append(mean * np.average(np.linalg.norm(mine, axis=1), weights=weight) / np.linalg.norm(mean))
    return np.array(rows)


def _cheapest(costs: Array, change: float) -> Labels:
    """Path through `costs` [n, K] of the least sum, where every change of the column costs `change` (Viterbi)."""
    total, steps = costs[0], []
    for cost in costs[1:]:
        ways = total[:, None] + change * (1 - np.eye(len(cost)))
        steps.append(ways.argmin(0))
        total = ways.min(0) + cost
    path = [int(total.argmin())]
    for step in reversed(steps):
        path.append(int(step[path[-1]]))
    return np.array(path[::-1])
