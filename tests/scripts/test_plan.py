"""scripts/plan.py: what it prints, what it refuses; every recipe loads, and the docs have the table that it makes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ccl.analysis.plan_report import HEAD, PlanOptions, read_recipes, report_of
from ccl.training.meta_run import MetaModels, forecast_components
from scripts import plan
from shared.utils.errors import UserError

ROOT = Path(__file__).parents[2]
RECIPES = read_recipes(ROOT / "configs/recipes.yaml")
TINY = ["--config", str(ROOT / "configs/train/puppets_tiny.yaml"), "--set", "data.manifest=clips"]


def test_a_plan_is_printed_and_written(tmp_path: Path, capsys: Any) -> None:
    plan.main([*TINY, "--gpus", "2", "--card", "4090", "--price", "2", "--json", str(tmp_path / "plan.json")])
    said = capsys.readouterr().out
    assert "on 2 x 4090" in said and "of 24 GiB, 1.5 of them for CUDA itself: fits" in said and "MFU of 40%" in said
    assert all(f"--memory {level}" in said for level in ("fast", "balanced", "low"))
    numbers = json.loads((tmp_path / "plan.json").read_text())["results"]
    assert numbers["gpu_bytes"] == sum(row["gpu"] for row in numbers["bytes"].values()) and numbers["fits"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*TINY, "--set", "data.size=[60, 64]"], "data.size .60, 64.: 60 is no multiple of 16"),
        ([*TINY, "--mfu", "0"], "--mfu 0: .*greater than 0"),
        (["--config", str(ROOT / "configs/train/mtv_cogvideox.yaml")], "has a backbone; plans are of the joint model"),
        ([], "options --config --recipes is needed"),
    ],
)
def test_what_cannot_be_planned_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan.main(words)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_recipe_loads_and_its_model_stands(recipe: Any) -> None:
    config = plan.read_config(ROOT / recipe.config, recipe.overrides)
    models = MetaModels(config, forecast_components(config), 2 * (config.control or {}).get("injection_every", 1))
    assert next(models.parameters()).is_meta and 0 < models.learns <= 1
    assert config.train.precision == "bf16" and config.train.activation_checkpointing


@pytest.mark.slow  # a model of full size runs on the meta device
def test_the_docs_have_the_table() -> None:
    text = (ROOT / "docs/scaling.md").read_text()
    assert "| " + " | ".join(HEAD) + " |" in text
    for recipe in RECIPES:
        assert f"| {recipe.name}: `{recipe.command}` |" in text
    recipe = next(one for one in RECIPES if "MTV" not in one.name)
    config = plan.read_config(ROOT / recipe.config, recipe.overrides)
    row = report_of(config, recipe.gpus, recipe.card, PlanOptions(config=Path("x"))).row(
        f"{recipe.name}: `{recipe.command}`"
    )
    assert "| " + " | ".join(row) + " |" in text
    assert "(too much)" not in text


def test_the_readmes_chain_makes_what_its_configuration_reads() -> None:
    text = (ROOT / "README.md").read_text()
    chain = text.split("### Bring Wan weights")[1].split("```")[1]
    config = plan.read_config(ROOT / "configs/train/ccl_wan1.3b_joint.yaml", [])
    made = re.findall(r"--output (\S+)", chain)
    assert (
        config.init in made and str(config.data.shards) in made and f"--checkpoint {config.output}/checkpoint" in chain
    )
    assert f"--fps {config.data.fps:g} --size {config.data.size[0]} {config.data.size[1]}" in chain
    assert "--config configs/train/ccl_wan1.3b_joint.yaml --dry-run" in chain
