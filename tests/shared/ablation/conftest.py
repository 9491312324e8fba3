from __future__ import annotations

from pathlib import Path

import pytest
from ablation_bench import Bench
from toy_results import PLAN, measured, run

from shared.ablation.plan import AblationPlan
from shared.ablation.results import Results


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


@pytest.fixture
def results() -> Results:
    """Three seeds of a reference and of a variant that is worse by 0.1, and a guidance sweep."""
    scores = {"ccl": (0.5, 0.52, 0.54), "bad": (0.4, 0.42, 0.44)}
    runs = {(name, seed): run(name, seed, score) for name, own in scores.items() for seed, score in enumerate(own)}
    points = [{"values": {"colour": measured(0.25 * i), "f1": measured(0.5)}} for i in range(2)]
    return Results(AblationPlan.model_validate(PLAN), runs, {0: {"points": points}})
