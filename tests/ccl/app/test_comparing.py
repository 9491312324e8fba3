"""Comparisons: two clips of one seed; what differs is told, and what does not is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from app_jobs import recorded

from ccl.app.comparing import Comparison
from ccl.app.shelf import Shelf
from shared.data.media import read_video
from shared.utils.errors import UserError


def test_both_sides_are_made_of_one_seed(shelf: Shelf, tmp_path: Path) -> None:
    own = shelf.model_options("assets/puppets")
    both = {"prompt": "Scene description: a big yellow bell rings twice.", "duration": "0.5"}
    comparison = Comparison(both, [own | {"steps": "1"}, own | {"steps": "2"}], 5, tmp_path)
    told = recorded(lambda job: comparison.make(job, shelf, ["one step", "two steps {odd}"]))
    a, b = told[-1].results
    assert (a.caption, b.caption) == ("A: one step, seed 5", "B: two steps {odd}, seed 5")
    assert not np.array_equal(read_video(a.file, 16), read_video(b.file, 16))
    shares = [one.share for one in told]
    assert shares == sorted(shares) and shares.count(0.5) >= 1


def test_what_cannot_be_compared(shelf: Shelf, tmp_path: Path) -> None:
    own = shelf.model_options("assets/puppets")
    with pytest.raises(UserError, match="A and B are the same; choose another checkpoint, or change a setting"):
        Comparison({"prompt": "a bell"}, [own, own], 0, tmp_path)
    with pytest.raises(UserError, match=r"^B: steps 0: Input should be greater than or equal to 1$"):
        Comparison({"prompt": "a bell"}, [own, own | {"steps": "0"}], 0, tmp_path)
