"""What the scorer says of a metric, and which clips are pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shared.data.manifest import Clip
from shared.evaluation.metrics.base import Better
from shared.evaluation.scorer import described, paired


class Counted:
    name, needs = "counted", frozenset({"video", "audio"})
    better: Better = "zero"

    def preprocessing(self) -> dict[str, Any]:
        return {"fps": 25}

    def fingerprint(self) -> str:
        return "abc"


def test_a_metric_is_described_by_all_that_moves_it() -> None:
    found = described(Counted())  # type: ignore[arg-type]
    assert found.pop("preprocessing_hash") == described(Counted())["preprocessing_hash"]  # type: ignore[arg-type]
    assert found == {"better": "zero", "needs": ["audio", "video"], "preprocessing": {"fps": 25}, "weights": "abc"}


def test_pairs() -> None:
    def clips(*pairs: tuple[str, str]) -> list[Clip]:
        return [Clip(id=name, video=Path("x.mp4"), caption=text) for name, text in pairs]

    new, old = clips(("1", "a"), ("2", "b"), ("3", "c")), clips(("2", "a"), ("1", "b"))
    assert paired(new, old, "name") == [("1", "1"), ("2", "2")]
    assert paired(new, old, "text") == [("1", "2"), ("2", "1")]
