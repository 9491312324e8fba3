"""Clips that are nearly the same: the same pictures, the same sound, or both, encoded, scaled or cut otherwise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any, NamedTuple

from shared.curation.config import Duplicates
from shared.curation.fingerprint import MOMENTS, Bits, from_hex

BAND = 4
"""Hexadecimal digits of a picture's bits, 16 bits, that clips have in common to be compared; as long ones of sound are
two moments."""
MOST_IN_BAND = 200
"""Clips that share a band from which it says nothing: a black or an even picture."""
SHIFTS = 3
"""Moments by which two sounds are moved against each other."""


class Print(NamedTuple):
    """Fingerprints of a clip: bits of pictures [MOMENTS, 256] and of sound [moments, 16]."""

    pictures: Bits
    sound: Bits


def pairs(prints: Sequence[Mapping[str, Any]], settings: Duplicates) -> Iterator[tuple[int, int]]:
    """Yield the numbers of clips that are nearly the same, of the figures that `fingerprint` found."""
    read = [Print(from_hex(figures["pictures"]), from_hex(figures["sound"])) for figures in prints]
    for first, second in sorted(_candidates(prints, settings)):
        if is_near(read[first], read[second], settings):
            yield first, second


def is_near(first: Print, second: Print, settings: Duplicates) -> bool:
    """Whether two clips are nearly the same."""
    seen = picture_distance(first, second) <= settings.most_picture
    if seen == (settings.by == "either"):
        return seen
    return sound_distance(first, second) <= settings.most_sound


def picture_distance(first: Print, second: Print) -> float:
    """Share of the bits of the pictures that differ, the mean over the moments."""
    return float((first.pictures ^ second.pictures).mean())


def sound_distance(first: Print, second: Print) -> float:
    """Share of the bits of the sound that differ, at the best of a few shifts."""
    best = 1.0
    for shift in range(-SHIFTS, SHIFTS + 1):
        a, b = first.sound[max(0, shift) :], second.sound[max(0, -shift) :]
        count = min(len(a), len(b))
        if count > max(len(first.sound), len(second.sound)) / 2:
            best = min(best, float((a[:count] ^ b[:count]).mean()))
    return best


def _candidates(prints: Sequence[Mapping[str, Any]], settings: Duplicates) -> set[tuple[int, int]]:
    """Pair the clips that share a band of a picture's bits or, where sound alone counts, two moments of sound."""
    places: dict[tuple[str, int, str], list[int]] = defaultdict(list)
    for number, figures in enumerate(prints):
        for kind, place, band in set(_bands(figures, settings)):
            places[kind, place, band].append(number)
    shared = (numbers for numbers in places.values() if 1 < len(numbers) <= MOST_IN_BAND)
    return {pair for numbers in shared for pair in combinations(numbers, 2)}


def _bands(figures: Mapping[str, Any], settings: Duplicates) -> Iterator[tuple[str, int, str]]:
    for moment in range(MOMENTS):
        row = figures["pictures"][moment]
        for at in range(0, len(row), BAND):
            yield "pictures", moment * len(row) + at, row[at : at + BAND]
    if settings.by == "either":
        rows = figures["sound"]
        for one, other in pairwise(rows):
            yield "sound", 0, one + other


def groups(keys: Iterable[str], same: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Name of each key's group, its smallest key, where all that `same` pairs are in one."""
    parent = {key: key for key in keys}

    def root(key: str) -> str:
        while parent[key] != key:
            parent[key] = key = parent[parent[key]]
        return key

    for first, second in same:
        one, other = sorted((root(first), root(second)))
        parent[other] = one
    return {key: root(key) for key in parent}
