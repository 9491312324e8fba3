"""What a plan must run: commands, their settings, and what they share."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml
from ablation_bench import Bench, names

from shared.ablation.jobs import Jobs, flags, overridden
from shared.ablation.plan import load_plan
from shared.utils.errors import UserError

ROOT = Path(__file__).parents[3]


def test_a_checkpoint_may_be_given_to_start_from(bench: Bench) -> None:
    given = bench.folder / "given"
    (given / "transformer").mkdir(parents=True)
    (given / "transformer/weights.safetensors").write_text("these")
    assert bench.run("--only", "bad", "--seeds", "0", "--start", str(given)) == 0
    calls = bench.calls()
    assert names(calls) == ["evaluate", "make_puppets", "make_puppets", "probe", "train_ccl"]
    words = {name: words for name, words in calls}
    assert f"init_streams={given}" in words["train_ccl"] and f"codecs={given}" in words["train_ccl"]
    assert any(word.startswith(f"data.latents={bench.output / 'latents'}") for word in words["train_ccl"])
    assert words["probe"][words["probe"].index("--against") + 1] == str(given)
    (given / "transformer/weights.safetensors").write_text("others")
    with pytest.raises(UserError, match="holds a run of another plan: start "):
        bench.run("--only", "bad", "--seeds", "0", "--start", str(given))
    with pytest.raises(UserError, match="holds a run of another plan: start "):
        bench.run("--only", "bad", "--seeds", "0")
    with pytest.raises(UserError, match=r"has no transformer/\*\.safetensors"):
        bench.run("--start", str(bench.folder))
    bench.write({"start": None, "probe": {"held": {"clips": "held"}}})
    with pytest.raises(UserError, match="the variants of toy start from nothing"):
        bench.run("--start", str(given))


def test_only_runs_that_read_the_same_share_what_is_encoded(bench: Bench) -> None:
    changed = {"ccl": {}, "bad": {"overrides": {"model.x": 0.2}}, "wide": {"overrides": {"data.size": [32, 64]}}}
    bench.write({"variants": changed, "guidance": None})
    assert bench.run("--seeds", "0") == 0
    folders = {
        re.search(r"(start|runs/\w+)-?0?/train", " ".join(words))[1]: word  # type: ignore[index]
        for name, words in bench.calls()
        if name == "train_ccl"
        for word in words
        if word.startswith("data.latents=")
    }
    assert folders["start"] == folders["runs/ccl"] == folders["runs/bad"] != folders["runs/wide"]


@pytest.mark.parametrize("name", ["ccl", "ccl_cutout", "mtv", "smoke"])
def test_the_shipped_plans_are_whole(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every configuration that they need loads, and a group is there for each phase."""
    monkeypatch.chdir(ROOT)
    plan = load_plan(ROOT / f"configs/ablation/{name}.yaml")
    groups = Jobs(plan, tmp_path, 1).groups(list(plan.variants), plan.all_seeds)
    own = [name for name, variant in plan.variants.items() if not variant.same_as]
    assert len(groups[2]) == sum(len(plan.seeds_of(name)) for name in own) and len(groups[1]) == 1
    assert {"ccl": 8, "ccl_cutout": 4, "mtv": 6}.get(name, 2) == len(plan.seeds)
    assert not set(plan.seeds) & set(plan.group_seeds.get("tune", ()))  # rates are chosen on seeds not used after
    assert not os.listdir(tmp_path)


def test_overrides_reach_the_training_as_they_are(tmp_path: Path) -> None:
    base = tmp_path / "base.yaml"
    base.write_text(yaml.safe_dump({"output": "o", "model": {}, "data": {"manifest": "m"}, "train": {"steps": 1}}))
    overrides = {"optimizer.lr": 1e-05, "tasks": {"t2av": 1.0}, "model.partition": False, "codecs": None, "output": "1"}
    words, config = overridden(str(base), overrides, "variant x")
    assert all("\n" not in word for word in words)
    found = [config[key] for key in ("optimizer.lr", "tasks.t2av", "model.partition", "codecs", "output")]
    assert found == [1e-05, 1.0, False, None, "1"]
    (tmp_path / "model.yaml").write_text("{fusion: cca, context_tokens: 4}")
    _, config = overridden(str(base), {"model.fusion": "full", "model": str(tmp_path / "model.yaml")}, "variant x")
    assert (config["model.fusion"], config["model.context_tokens"]) == ("full", 4)  # a section stands before its keys
    with pytest.raises(UserError, match=r"variant x: .*train\.stepz"):
        overridden(str(base), {"train.stepz": 3}, "variant x")


def test_options_are_flags() -> None:
    assert flags({"text_scale": (2.0, 3.0), "tasks": ["t2av", "a2v"], "clips": 4}) == [
        "--text-scale", "2.0,3.0", "--tasks", "t2av,a2v", "--clips", "4",
    ]  # fmt: skip
