"""A dry run: what a run would refuse is refused, nothing is written, weights of full size are names and shapes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import train_ccl
from full_size import sparse
from safetensors import safe_open

from ccl.training.build import JointAdapter
from ccl.training.dry_run import check_deepspeed, check_run, room
from scripts.make_puppets import main as make_puppets
from shared.utils.config import TrainConfig
from shared.utils.errors import UserError, run_main

ROOT = Path(__file__).parents[3]
STREAM = {"num_attention_heads": 1, "attention_head_dim": 12, "num_layers": 1, "ffn_dim": 16}
MODEL = {"video": STREAM, "audio": STREAM, "cca_heads": 1, "cca_head_dim": 12, "context_tokens": 2}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dry") / "clips"
    make_puppets(["--clips", "2", "--output", str(folder), "--seed", "5", "--size", "32", "--workers", "1"])
    return folder


def config(clips: Path, output: Path, **changes: Any) -> TrainConfig:
    data = {"manifest": str(clips), "fps": 8, "size": [32, 32], "duration": 1.0} | changes.pop("data", {})
    raw = {"output": str(output), "model": MODEL, "data": data, "train": {"steps": 2, "micro_batch": 2}}
    return TrainConfig.model_validate(raw | changes)


def test_a_run_that_could_begin_is_told_and_nothing_is_written(clips: Path, tmp_path: Path, capsys: Any) -> None:
    (file := tmp_path / "config.json").write_text(config(clips, tmp_path / "run").model_dump_json())
    before = sorted(path for path in tmp_path.rglob("*"))
    train_ccl.main(["--config", str(file), "--dry-run"])
    said = capsys.readouterr().out
    assert "2 clips; " in said and "a step: 2 clips, about " in said and said.endswith("nothing was written\n")
    assert "| weights |" in said and "disk: states " in said
    assert sorted(path for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"size": [40, 32]}}, "data.size [40, 32]: 40 does not fit"),
        (
            {"data": {"sample_rate": 8000}, "codecs": str(ROOT / "assets/codecs")},
            "data.sample_rate 8000: the audio codec",
        ),
        ({"deepspeed": {"zero_optimization": {"stage": 2, "overlap": 1}}}, "deepspeed.zero_optimization"),
        ({"train": {"steps": 2, "context_parallel": 2}}, "train.context_parallel 2"),
        ({"init": str(ROOT / "assets/puppets")}, "in the configuration; make them agree"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    clips: Path, tmp_path: Path, capsys: Any, changes: dict[str, Any], message: str
) -> None:
    (file := tmp_path / "config.json").write_text(
        json.dumps(config(clips, tmp_path / "run").model_dump(mode="json") | _deep(clips, tmp_path, changes))
    )
    with pytest.raises(SystemExit) as stop:
        run_main(lambda: train_ccl.main(["--config", str(file), "--dry-run"]))
    error = capsys.readouterr().err
    assert stop.value.code == 2 and message in error and len(error.splitlines()) == 1, error
    assert not (tmp_path / "run").exists()


def _deep(clips: Path, tmp_path: Path, changes: dict[str, Any]) -> dict[str, Any]:
    whole = config(clips, tmp_path / "run", **dict(changes)).model_dump(mode="json")
    return {name: whole[name] for name in changes}


def test_a_disk_without_room_and_a_run_of_another_configuration_are_refused(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = config(clips, tmp_path / "run")
    (checked,) = check_run(one, [one], JointAdapter)
    needs = room(checked, encodes=True)
    size = sum(p.numel() for p in checked.models.transformer.parameters())
    assert needs["states"] == 3 * 4 * 5 * size and needs["checkpoint"] == 2 * 2 * size and needs["latents"] > 0
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(UserError, match=r"GB are needed .states .*make room, or lower train.keep_checkpoints"):
        check_run(one, [one], JointAdapter)
    (tmp_path / "run/state").mkdir(parents=True)
    (tmp_path / "run/config.yaml").write_text(json.dumps(one.model_copy(update={"seed": 1}).model_dump(mode="json")))
    with pytest.raises(UserError, match="holds a run of another configuration: seed"):
        check_run(one, [one], JointAdapter)
    check_deepspeed(one)


def test_weights_of_full_size_are_compared_by_name_and_shape(tmp_path: Path) -> None:
    from ccl.training.meta_run import MetaModels, forecast_components
    from shared.training.weights import initialise

    recipe = TrainConfig.load(ROOT / "configs/train/ccl_wan14b_joint.yaml")
    model = MetaModels(recipe, forecast_components(recipe), 40).transformer
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    sparse(tmp_path / "transformer", shapes)
    with safe_open(tmp_path / "transformer/diffusion_pytorch_model.safetensors", framework="np") as file:
        assert set(file.keys()) == set(shapes)
    assert initialise(model, tmp_path / "transformer") is model and next(model.parameters()).is_meta
    name = "blocks.7.video.attn1.to_q.weight"
    sparse(tmp_path / "transformer", shapes | {name: (5120, 5121)})
    with pytest.raises(UserError, match=r"blocks\.7\.video\.attn1\.to_q\.weight is \[5120, 5121\], and \[5120, 5120\]"):
        initialise(model, tmp_path / "transformer")
