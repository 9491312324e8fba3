"""The comparison of two recordings: what is equal, what is near enough and what fails."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from shared.data.media import write_video

sys.path.insert(0, str(Path(__file__).parent))
import compare

HEAD = "step,stream,task,sigma_bucket,loss,samples\n"


def recording(folder: Path, name: str, later: float = 0.0, first: float = 0.0) -> Path:
    """A run of two steps, a sample and a result; `name` is how its one weight is called."""
    (folder / "train/checkpoint/transformer").mkdir(parents=True)
    rows = f"1,video,t2v,0.0-0.2,{1.5 + first},2\n20,video,t2v,0.0-0.2,{1.25 + later},2\n"
    (folder / "train/losses.csv").write_text(HEAD + rows)
    save_file({name: torch.full((2,), 1 + later)}, folder / "train/checkpoint/transformer/w.safetensors")
    frames = np.random.default_rng(0).integers(0, 255, (4, 16, 16, 3), dtype=np.uint8)
    write_video(folder / "samples/t2av.mp4", frames, 16.0, np.zeros((1, 4000), np.float32), 16000)
    (folder / "ablation/results").mkdir(parents=True)
    key = "model.joiner" if "_cca" in name else "model.fusion"
    result = {"overrides": {key: "cca"}, "seconds": {"train": later}, "values": {"loss": [0.5, None]}}
    (folder / "ablation/results/ccl-0.json").write_text(json.dumps(result))
    return folder


def found(before: Path, after: Path) -> dict[str, tuple[float, float]]:
    parts = ("train", "samples", "ablation")
    items = [item for part in parts for item in compare.differences(before, after, part)]
    return {name: (apart, allowed) for name, apart, allowed in items}


OLD, NEW = "video_cca.3.to_q.weight", "blocks.3.fusion.video.to_q.weight"


def test_the_same_under_other_names_is_equal_to_the_bit(tmp_path):
    items = found(recording(tmp_path / "a", OLD), recording(tmp_path / "b", NEW))
    assert len(items) == 6 and all(apart == 0 for apart, _ in items.values())


def test_training_may_differ_a_little_and_less_at_its_first_step(tmp_path):
    before = recording(tmp_path / "a", OLD)
    near = found(before, recording(tmp_path / "b", NEW, later=5e-5, first=5e-7))
    assert all(apart <= allowed for apart, allowed in near.values()) and near["train/losses.csv: step 20"][0] > 0
    far = found(before, recording(tmp_path / "c", NEW, later=2e-4, first=5e-6))
    failed = {name for name, (apart, allowed) in far.items() if apart > allowed}
    assert failed == {"train/losses.csv: step 1", "train/losses.csv: step 20", "train/transformer: 1 tensors"}


def test_samples_and_metrics_may_not_differ_at_all(tmp_path):
    before, after = recording(tmp_path / "a", OLD), recording(tmp_path / "b", NEW)
    write_video(after / "samples/t2av.mp4", np.zeros((4, 16, 16, 3), np.uint8), 16.0)
    (after / "ablation/results/ccl-0.json").write_text(json.dumps({
        "overrides": {"model.fusion": "cca"}, "values": {"loss": [0.5 + 1e-9, None]}
    }))  # fmt: skip
    failed = [name for name, (apart, allowed) in found(before, after).items() if apart > allowed]
    assert failed == [
        "samples/t2av.mp4: video 4x16x16x3", "samples/t2av.mp4: audio 4096x1", "ablation/ccl-0.json: 3 values",
    ]  # fmt: skip


def test_what_has_no_counterpart_fails_and_the_exit_code_says_so(tmp_path, monkeypatch, capsys):
    before, after = recording(tmp_path / "a", OLD), recording(tmp_path / "b", OLD)
    monkeypatch.setattr(sys, "argv", ["compare.py", str(before), str(after), "--only", "train"])
    with pytest.raises(SystemExit) as stop:
        compare.main()
    told = capsys.readouterr().out
    assert stop.value.code == 1 and "2 without a counterpart, such as blocks.3.fusion.video.to_q.weight" in told
