"""Loss curves of a run."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from shared.ablation.curves import loss_curves, smoothed
from shared.ablation.sections import Curves
from shared.utils.errors import UserError


def test_the_average_counts_steps() -> None:
    rows = smoothed({10: 1.0, 20: 0.0, 40: 0.0}, 10.0)
    assert rows == pytest.approx({10: 1.0, 20: math.exp(-1), 40: math.exp(-3)})


def test_loss_curves_are_means_over_levels_from_a_step_on(tmp_path: Path) -> None:
    lines = ["step,stream,task,sigma_bucket,loss,samples"]
    for step in range(10, 1010, 10):
        lines += [f"{step},video,t2av,0.0-0.2,1,1", f"{step},video,t2av,0.8-1.0,5,3", f"{step},audio,t2av,0.8-1.0,2,1"]
        lines += [f"{step},video,t2v,0.8-1.0,100,1"]
    (tmp_path / "losses.csv").write_text("\n".join(lines))
    found = loss_curves(tmp_path / "losses.csv", Curves(tasks=["t2av", "mtv"], first=100, points=20))
    assert set(found) == {"t2av video", "t2av audio", "t2av both"}
    both = found["t2av both"]
    assert both["loss"] == [6.0] * len(both["loss"]) and 10 < len(both["step"]) <= 20
    assert both["step"][-1] == 1000 and both["step"][0] >= 100
    with pytest.raises(UserError, match="not the losses of a training"):
        loss_curves(tmp_path / "none.csv", Curves())
