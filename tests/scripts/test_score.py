"""score.py on tiny clips of the puppets with a CLIP of random weights: numbers, trust, resume, refusals."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from drawn_clips import write_clip
from feature_models import save_clip, save_videomae

from scripts.make_puppets import main as make_puppets
from scripts.score import main
from shared.evaluation.score_run import Work
from shared.utils.errors import UserError


@pytest.fixture(scope="module")
def clip_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="module")
def puppets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips") / "puppets"
    make_puppets(["--clips", "3", "--output", str(folder), "--seed", "5", "--size", "32", "--workers", "1"])
    return folder


def words(model: Path, output: Path, *clips: str | Path, metrics: str = "temp_c,text_c") -> list[str]:
    common = ["--metrics", metrics, "--weights", f"clip={model}", "--device", "cpu", "--output", str(output)]
    return [*map(str, clips), *common]


def read(output: Path) -> dict[str, Any]:
    return json.loads((output / "metrics.json").read_text())


def test_a_folder_of_puppets(
    clip_model: Path, puppets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(words(clip_model, tmp_path / "o", puppets))
    metrics, out = read(tmp_path / "o"), capsys.readouterr().out
    for name in ("temp_c", "text_c"):
        metric = metrics["metrics"][name]
        score = metric["sets"]["puppets"]
        assert score["n"] == 3 and score["n_refused"] == 0 and score["interval"][0] <= score["value"]
        assert len(metric["preprocessing_hash"]) == 16 and len(metric["weights"]) == 64
        assert metric["preprocessing"]["size"] == [32, 32] and name in out
    assert {"code", "torch", "transformers", "av"} <= metrics["versions"].keys()
    assert (tmp_path / "o/metrics.csv").exists() and (tmp_path / "o/metrics.tex").exists()


def test_killed_it_goes_on_to_the_same_numbers(clip_model: Path, puppets: Path, tmp_path: Path) -> None:
    if not (child := os.fork()):
        keep = Work.keep

        def then_die(work: Work, results: Any) -> None:
            keep(work, results)
            if len(list(work.file.parent.glob("*.json"))) == 2:
                os.kill(os.getpid(), signal.SIGKILL)

        Work.keep = then_die  # type: ignore[method-assign]
        main(words(clip_model, tmp_path / "killed", puppets))
        os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert len(list((tmp_path / "killed/clips/puppets").glob("*.json"))) == 2
    assert not (tmp_path / "killed/metrics.json").exists()
    for folder in ("killed", "whole"):
        main(words(clip_model, tmp_path / folder, puppets))
    assert read(tmp_path / "killed") == read(tmp_path / "whole")


def test_models_are_compared_pair_by_pair_and_refusals_counted(clip_model: Path, tmp_path: Path) -> None:
    for number in range(4):
        write_clip(tmp_path / f"a/{number}.mp4", number)
        write_clip(tmp_path / f"b/{number}.mp4", number + 4)
    write_clip(tmp_path / "b/slow.mp4", fps=4)  # wrong fps
    write_clip(tmp_path / "b/short.mp4", seconds=0.125)  # too short
    (tmp_path / "b/broken.mp4").write_bytes(b"nothing")
    more = ["--pairs-by", "name", "--workers", "2"]
    main([*words(clip_model, tmp_path / "o", f"ours={tmp_path / 'a'}", tmp_path / "b", metrics="temp_c"), *more])
    metric = read(tmp_path / "o")["metrics"]["temp_c"]
    assert metric["sets"]["b"]["n"] == 4 and metric["sets"]["b"]["n_refused"] == 3
    reasons = metric["sets"]["b"]["refused"]
    assert reasons.pop("4 frames per second; 8 are read") == reasons.pop("shorter than 0.25 s") == 1
    assert [reason for reason in reasons if reason.startswith("broken or not media")] == list(reasons)
    (pair,) = metric["pairs"]
    assert (pair["of"], pair["minus"], pair["n"]) == ("b", "ours", 4)
    assert pair["difference"] == pytest.approx(metric["sets"]["b"]["value"] - metric["sets"]["ours"]["value"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (["--metrics", "temp_d"], "--metrics temp_d: no such metric; the nearest is temp_c"),
        (["--set", "temp_c.fp=3"], "there are temp_c.fps, text_c.fps"),
        (["--pairs-by", "name"], "--pairs-by name: compares two sets of clips or more"),
        (["--compare-anyway", "temp_c"], "--compare-anyway belongs to --against"),
        (["--weights", "clap=x"], "--weights clap: no metric that is asked for needs it"),
        (["--weights", "clip"], "--weights clip: NAME=PATH is needed"),
    ],
)
def test_options_are_refused(clip_model: Path, puppets: Path, tmp_path: Path, change: list[str], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        main([*words(clip_model, tmp_path / "o", puppets), *change])
    assert not (tmp_path / "o").exists()


def test_distances_from_true_clips_and_another_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(10):
        write_clip(tmp_path / f"a/{number}.mp4", number, seconds=0.75, sound=False)
        write_clip(tmp_path / f"true/{number}.mp4", number + 20, seconds=0.75, sound=False)
    copytree(tmp_path / "a", tmp_path / "b")
    model = save_videomae(tmp_path / "model")
    more = ["--metrics", "fvd_videomae", "--weights", f"videomae={model}", "--device", "cpu"]
    more += ["--reference", str(tmp_path / "true"), "--set", "fvd_videomae.frames=4"]
    a, b, few = (str(tmp_path / name) for name in ("a", "b", "few"))
    main([a, b, *more, "--set", "fvd_videomae.windows=4", "--pairs-by", "name", "--output", str(tmp_path / "o")])
    metric = read(tmp_path / "o")["metrics"]["fvd_videomae"]
    score = metric["sets"]["a"]
    assert (score["n"], score["rows"], score["reference_rows"], score["dimension"]) == (10, 40, 40, 16)
    assert score["interval"][0] < score["value"] < score["interval"][1] and score["at_size"] > score["value"]
    assert metric["pairs"][0]["difference"] == pytest.approx(0, abs=1e-6)
    main([a, *more, "--output", few])
    assert read(tmp_path / "few")["metrics"]["fvd_videomae"]["sets"]["a"]["value"] is None
    assert "10 rows of features; 32 are needed" in capsys.readouterr().out
    against = ["--against", str(tmp_path / "o/metrics.json")]
    with pytest.raises(UserError, match=r"fvd_videomae was measured in another way \(windows: 1 here, 4 there\)"):
        main([a, *more, *against, "--output", few])
    main([a, *more, *against, "--compare-anyway", "fvd_videomae", "--small-sets", "--output", few])
    found = read(tmp_path / "few")["metrics"]["fvd_videomae"]
    assert found["sets"]["a"]["at_size"] > 0 and found["against"][0]["measured_alike"] is False
    with pytest.raises(UserError, match="--metrics fvd_videomae: compares with true clips; give --reference DIR"):
        main([a, *(word for word in more if word not in ("--reference", str(tmp_path / "true"))), "--output", few])
