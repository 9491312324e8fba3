"""The toy world's training as `make gpu` runs it, and its loss curve."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccl.analysis import gpu_commands
from ccl.analysis.gpu_commands import CURVE, MOST_STEPS, _train, gpu_tests, loss_curve, training_command
from shared.utils.config import TrainConfig


@pytest.mark.parametrize("tiny", [True, False])
def test_the_training_is_a_configuration(tiny: bool, tmp_path: Path) -> None:
    script, _, config, *words = training_command(tmp_path / "clips", tmp_path / "out", tiny)
    run = TrainConfig.load(Path(config), words[1::2])
    assert script == "train_ccl.py" and set(words[::2]) == {"--set"}
    assert run.train.steps == (4 if tiny else MOST_STEPS) and run.train.precision == ("fp32" if tiny else "bf16")
    assert run.data.manifests == [tmp_path / "clips/manifest.jsonl"] and run.train.report_to == []
    assert [set(phase.tasks) for phase in run.phases] == [{"t2av", "a2v", "v2a"}]


def test_the_curve_is_the_mean_of_each_step_and_is_thinned(tmp_path: Path) -> None:
    rows = ["step,stream,task,sigma_bucket,loss,samples"]
    for step in range(1, 201):
        rows += [f"{step},video,t2av,0,{2 / step},1", f"{step},video,a2v,1,{4 / step},3", f"{step},audio,t2av,0,1.0,2"]
    (tmp_path / "losses.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    found = loss_curve(tmp_path / "losses.csv")
    assert found["steps"] == 200 and all(len(curve) == CURVE for curve in found["curves"].values())
    video = [(2 + 3 * 4) / 4 / step for step in (1, 2, 3, 4)]
    assert found["curves"]["video"][0] == [4, pytest.approx(sum(video) / 4)]
    assert found["audio_loss"] == [1.0, 1.0] and found["video_loss"][0] > found["video_loss"][1]


def test_a_training_is_asked_to_stop_when_its_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scripts").mkdir()
    file = tmp_path / "scripts/slow.py"
    stops = (
        "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: (open(sys.argv[1], 'w'), sys.exit(143)))\n"
    )
    file.write_text(f"{stops}open(sys.argv[1] + '.begun', 'w')\ntime.sleep(60)\n", encoding="utf-8")
    monkeypatch.setattr(gpu_commands, "ROOT", tmp_path)
    assert _train(["slow.py", str(tmp_path / "state")], 3.0) == 143
    assert (tmp_path / "state").exists()
    file.write_text("raise SystemExit(2)\n", encoding="utf-8")
    assert _train(["slow.py"], 30.0) == 2


def test_a_gpu_test_that_fails_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu: needs one\n", encoding="utf-8")
    text = "import pytest\n@pytest.mark.gpu\ndef test_a(): assert {}\ndef test_b(): assert 0\n"
    monkeypatch.setattr(gpu_commands, "ROOT", tmp_path)
    found: dict = {}
    (tmp_path / "tests/test_x.py").write_text(text.format(1), encoding="utf-8")
    gpu_tests(lambda **values: found.update(values), True, 60.0)
    assert found == {"tests": 1, "failures": 0, "errors": 0, "skipped": 0}
    (tmp_path / "tests/test_x.py").write_text(text.format(0), encoding="utf-8")
    with pytest.raises(RuntimeError, match="exit code 1"):
        gpu_tests(lambda **values: found.update(values), True, 60.0)
    assert found["failures"] == 1
