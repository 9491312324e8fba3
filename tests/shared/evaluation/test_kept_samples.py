"""Samples come back to the bit; others' and damaged ones are told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shared.evaluation.kept_samples import KeptSamples, Samples
from shared.utils.errors import UserError

FRAMES = np.arange(2 * 3 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 4, 3)
SOUNDS = np.random.default_rng(0).standard_normal((2, 100)).astype(np.float32)


def test_samples_come_back_until_the_evaluation_is_finished(tmp_path: Path) -> None:
    stopped = pytest.raises(KeyboardInterrupt)
    with stopped, KeptSamples.of(tmp_path, "settings") as kept:
        kept.write("mtv:speech swapped", [4, 7], Samples(FRAMES, SOUNDS, 1.5))
        kept.write("v2a", [0, 1], Samples(None, SOUNDS, 0.5))
        raise KeyboardInterrupt
    with KeptSamples.of(tmp_path, "settings") as kept:
        both = kept.read("mtv:speech swapped", [4, 7])
        assert both is not None and both.seconds == 1.5
        assert np.array_equal(both.frames, FRAMES) and np.array_equal(both.sounds, SOUNDS)
        sounds = kept.read("v2a", [0, 1])
        assert sounds is not None and sounds.frames is None and sounds.sounds.dtype == np.float32
        assert kept.read("v2a", [2]) is None and kept.read("a2v", [0, 1]) is None
    assert not [*tmp_path.iterdir()]


def test_those_of_other_settings_are_refused_and_stay(tmp_path: Path) -> None:
    stopped = pytest.raises(KeyboardInterrupt)
    with stopped, KeptSamples.of(tmp_path, "settings") as kept:
        kept.write("v2a", [0, 1], Samples(None, SOUNDS, 0.5))
        raise KeyboardInterrupt
    before = sorted(path.name for path in (tmp_path / "unfinished").iterdir())
    told = pytest.raises(
        UserError, match="unfinished holds samples of an evaluation with other options or weights: give"
    )
    with told, KeptSamples.of(tmp_path, "others"):
        pass
    assert sorted(path.name for path in (tmp_path / "unfinished").iterdir()) == before != []


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with KeptSamples.of(tmp_path, "settings"):
        told = pytest.raises(
            UserError, match=r"process \d+ on .* evaluates into it; let it end, or give another --output"
        )
        with told, KeptSamples.of(tmp_path, "settings"):
            pass


@pytest.mark.parametrize("damage", ["cut", "empty", "others"])
def test_damaged_samples_are_told(tmp_path: Path, damage: str) -> None:
    kept = KeptSamples(tmp_path)
    kept.write("v2a", [0, 1], Samples(None, SOUNDS[:1] if damage == "others" else SOUNDS, 0.5))
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    file.write_bytes({"cut": content[:300], "empty": b"", "others": content}[damage])
    with pytest.raises(UserError, match=r"v2a\.000000\.npz is damaged .*; delete it to sample these clips anew"):
        kept.read("v2a", [0, 1])
