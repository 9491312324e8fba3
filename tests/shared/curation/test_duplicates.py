from __future__ import annotations

import numpy as np

from shared.curation.config import Duplicates
from shared.curation.duplicates import groups, pairs
from shared.curation.fingerprint import MOMENTS, to_hex

RNG = np.random.default_rng(0)


def figures(pictures: np.ndarray, sound: np.ndarray) -> dict[str, list[str]]:
    return {"pictures": to_hex(pictures), "sound": to_hex(sound)}


def test_pairs_are_found_among_many_by_pictures_sound_or_both() -> None:
    pictures = RNG.random((60, MOMENTS, 256)) > 0.5
    sounds = RNG.random((60, 40, 16)) > 0.5
    for copy, true in ((10, 3), (11, 4)):
        pictures[copy] = pictures[true] ^ (RNG.random((MOMENTS, 256)) < 0.03)
    sounds[10] = sounds[3] ^ (RNG.random((40, 16)) < 0.05)
    sounds[20, 2:] = sounds[5, :-2]
    prints = [figures(one, other) for one, other in zip(pictures, sounds, strict=True)]
    assert list(pairs(prints, Duplicates(by="both"))) == [(3, 10)]
    assert list(pairs(prints, Duplicates(by="either"))) == [(3, 10), (4, 11), (5, 20)]


def test_groups_are_all_that_are_joined() -> None:
    assert groups("abcdef", [("b", "a"), ("c", "b"), ("f", "e")]) == dict(zip("abcdef", "aaadee", strict=True))
    assert groups([], []) == {}
