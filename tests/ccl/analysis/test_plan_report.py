"""Recipes are read, and a clip's sizes follow from a configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccl.analysis.plan_report import PlanOptions, clip_sizes, read_recipes
from ccl.training.meta_run import forecast_components
from shared.utils.config import TrainConfig
from shared.utils.errors import UserError

ROOT = Path(__file__).parents[3]


def test_a_list_of_recipes_is_read_and_a_wrong_one_refused(tmp_path: Path) -> None:
    (file := tmp_path / "own.yaml").write_text("- {name: a, config: b.yaml, set: [x=1, 'y={z: 1}'], gpus: 3}\n")
    (recipe,) = read_recipes(file)
    assert (recipe.command, recipe.gpus, recipe.card) == ("--config b.yaml --set x=1 --set 'y={z: 1}'", 3, "h100")
    file.write_text("- {name: a, config: b.yaml, gpus: none}\n")
    with pytest.raises(UserError, match=r"own\.yaml: 0\.gpus: Input should be a valid integer"):
        read_recipes(file)


def test_sizes_are_those_of_the_codecs_and_the_clip() -> None:
    options = PlanOptions(config=Path("x"))
    for name, wanted in (("ccl_wan1.3b_joint", (21, 44, 80, 127, 512)), ("ccl_wan5b_joint", (31, 22, 40, 127, 512))):
        config = TrainConfig.load(ROOT / f"configs/train/{name}.yaml")
        sizes = clip_sizes(config, forecast_components(config), options)
        assert (sizes.frames, sizes.height, sizes.width, sizes.audio, sizes.text) == wanted
    shorter = clip_sizes(config, forecast_components(config), PlanOptions(config=Path("x"), seconds=1.0, text_tokens=7))
    assert (shorter.frames, shorter.text) == (7, 7)
