"""The recipes at full size: they load, say what the papers say, and their models stand on the meta device."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import full_size
import pytest
import torch
import train_ccl
import train_mtv
from public import stream_shapes

from ccl.analysis.plan_report import read_recipes
from ccl.transformer import DualStreamTransformer
from mtv.control import TRACKS, MSTControlNet
from mtv.curriculum import CurriculumConfig
from shared.utils.config import TrainConfig

ROOT = Path(__file__).parents[2]
NAMES = ("ccl_wan14b_pretrain_audio", "ccl_wan14b_joint", "mtv_wan14b")
RECIPES = read_recipes(ROOT / "configs/recipes.yaml")
CODECS = {"video": {"in_channels": 16, "text_dim": 4096}, "audio": {"in_channels": 128, "text_dim": 4096}}


def recipe(name: str) -> TrainConfig:
    file = ROOT / f"configs/train/{name}.yaml"
    return CurriculumConfig.load(file) if name.startswith("mtv") else TrainConfig.load(file)


def model(config: TrainConfig) -> DualStreamTransformer:
    with torch.device("meta"):
        return DualStreamTransformer(**config.model | {name: config.model[name] | CODECS[name] for name in CODECS})


def test_the_audio_tower_is_pretrained_as_the_joint_model_has_it():
    config = recipe("ccl_wan14b_pretrain_audio")
    small, whole = model(config), model(recipe("ccl_wan14b_joint"))
    assert stream_shapes(small, "audio") == stream_shapes(whole, "audio")
    assert small.audio_stream.config == whole.audio_stream.config
    assert sum(map(math.prod, stream_shapes(small, "video").values())) < 1e6
    assert (config.train.steps, config.optimizer.lr, config.tasks) == (160_000, 1e-4, {"t2a": 1.0})
    assert config.train.micro_batch * config.train.gradient_accumulation_steps * 64 == 3200


def test_the_joint_recipe_is_the_papers():
    config = recipe("ccl_wan14b_joint")
    assert sum(p.numel() for p in model(config).parameters()) == pytest.approx(22.6e9, rel=0.01)
    assert (config.train.steps, config.data.size, config.data.sample_rate) == (12_000, (352, 640), 24_000)
    assert config.train.micro_batch * config.train.gradient_accumulation_steps * 64 == 320
    assert config.optimizer.lr == 1e-5
    assert config.optimizer.lr * config.optimizer.cross_modal_lr_scale == pytest.approx(1e-4)


def test_the_mtv_recipe_has_the_papers_stages_on_the_joint_model():
    config = recipe("mtv_wan14b")
    stages = [config.stage(index) for index in range(len(config.stages))]
    assert [stage.train.steps for stage in stages] == [40_000] * 5
    assert [stage.init for stage in stages][1:] == [f"{stage.output}/checkpoint" for stage in stages[:-1]]
    assert all(stage.trainable == ["control", "attention"] and stage.tasks == {"mtv": 1.0} for stage in stages)
    stream = model(config).video_stream.config
    sizes = {track: (5, 12, 768) for track in TRACKS}
    with torch.device("meta"):
        control = MSTControlNet(
            backbone_dim=stream.width, backbone_heads=stream.num_attention_heads, num_blocks=stream.num_layers,
            tracks=sizes, **config.control,
        )  # fmt: skip
    assert len(control.interval_injection) == 10
    assert 1e9 < sum(p.numel() for p in control.parameters()) < 2.5e9


@pytest.mark.parametrize("name", NAMES)
def test_the_head_of_a_recipe_says_how_it_is_started(name):
    text = (ROOT / f"configs/train/{name}.yaml").read_text()
    assert f"--hostfile hostfile scripts/train_{name[:3]}.py --config configs/train/{name}.yaml" in text
    config = recipe(name)
    assert config.train.activation_checkpointing and config.train.precision == "bf16"
    assert config.deepspeed["zero_optimization"]["stage"] >= 2


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the recipes name: weights of full size by name and shape, clips, shards."""
    folder = tmp_path_factory.mktemp("full_size")
    full_size.world(folder)
    (folder / "configs").symlink_to(ROOT / "configs")
    return folder


@pytest.mark.slow  # thirteen models of up to 27 B parameters stand on the meta device
@pytest.mark.parametrize("one", RECIPES, ids=lambda one: one.name)
def test_every_recipe_could_begin(one: Any, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(root)
    monkeypatch.setenv("WORLD_SIZE", str(one.gpus))
    free = shutil.disk_usage(root)._replace(free=10**15)  # a state of 14 B takes 0.5 TB
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    before = sorted(root.rglob("*"))
    script = train_mtv if "mtv" in one.config else train_ccl
    changes = [word for change in one.overrides for word in ("--set", change)]
    script.main(["--config", one.config, *changes, "--dry-run"])
    said = capsys.readouterr().out
    assert said.endswith("nothing was written\n") and "disk: states" in said
    assert sorted(root.rglob("*")) == before
