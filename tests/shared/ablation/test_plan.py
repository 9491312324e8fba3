"""A plan that cannot be right is refused, with the place named; names of its settings of guidance."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.ablation.plan import GuidanceSetting, dump_plan, load_plan
from shared.utils.errors import UserError

PLAN: dict[str, Any] = {
    "name": "toy", "clips": {"train": {"seed": 1, "clips": 4}, "held": {"seed": 2, "clips": 4}},
    "train_clips": ["train"], "base": "base.yaml", "seeds": [0], "reference": "a",
    "probe": {"held": {"clips": "held"}},
    "variants": {"a": {}, "b": {"overrides": {"train.steps": 3}}, "c": {"same_as": "a"}},
    "endpoints": [{"name": "loss", "path": "probe.held.loss", "better": "lower"}],
}  # fmt: skip


CONTRAST = {"variant": "b", "metric": "loss", "claim": "c", "bound": 0.1, "expected": 0.1, "deviation": 0.1}


def write(folder: Path, change: dict[str, Any] | None = None) -> Path:
    plan = copy.deepcopy(PLAN)
    for key, value in (change or {}).items():
        node = plan
        *parents, last = key.split("/")
        for parent in parents:
            node = node[parent]
        node[last] = value
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    return folder / "plan.yaml"


def test_what_is_dumped_reads_back(tmp_path: Path) -> None:
    plan = load_plan(write(tmp_path))
    (tmp_path / "again.yaml").write_text(dump_plan(plan))
    assert load_plan(tmp_path / "again.yaml").model_dump() == plan.model_dump()  # the files they came from differ
    assert plan.shown_as("c") == plan.source("c") == "a" and plan.label("c") == "c"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seedz": [3]}, "unknown key seedz; the nearest known key is seeds"),
        ({"clips/train/sead": 3}, "unknown key clips.train.sead; the nearest known key is "),
        ({"clips/held/seed": 1}, "their seeds are"),
        ({"clips/train/conflict": 0.5}, "train holds clips whose text contradicts the sound"),
        ({"train_clips": ["trian"]}, "trian is none of the clips held, train"),
        ({"probe/held/clips": "train"}, "probe.held.clips: train is trained on"),
        ({"probe/held/forgetting": True}, "probe.held.forgetting: compares with the towers"),
        ({"variants/b/overrides": {"seed": 3}}, "variants.b.overrides: seed is the plan's to set"),
        ({"variants/c/same_as": "d"}, "variants.c.same_as: d is no other variant"),
        ({"variants/c/overrides": {"train.steps": 3}}, "variants.c: same_as takes the training of a"),
        ({"variants/b/evaluate": {"clipz": 3}}, "evaluate.clipz"),
        ({"variants/b/probe": {"none": {}}}, "none is no probe of the plan"),
        ({"reference": "c"}, "reference: c is none of the variants with a training of its own"),
        ({"endpoints": []}, "endpoints"),
        ({"endpoints": [PLAN["endpoints"][0]] * 2}, "two metrics have one name: loss"),
        ({"secondary": [{"name": "x", "path": "probe.no.loss"}]}, "probe.no.loss is of no probe of the plan"),
        ({"secondary": [{"name": "x", "path": "loss"}]}, "secondary.0.path"),
        ({"seeds": [0, 0]}, "seeds: [0, 0]; each may stand once"),
        ({"group_seeds": {"few": [0]}}, "group_seeds.few: no variant is of group few; there are main"),
        ({"group_seeds": {"main": [0]}}, "group_seeds: the seeds of a's group are the plan's own, `seeds`"),
        ({"group_seeds": {"few": [3, 3]}, "variants/b/group": "few"}, "group_seeds.few: [3, 3]; each may stand once"),
        ({"group_seeds": {"few": [3]}, "variants/c/group": "few"}, "variants.c: takes a training that has no seed 3"),
        ({"variants/b/against": "d"}, "variants.b.against: d is none of the plan's variants"),
        ({"probe/held/groups": ["few"]}, "probe.held.groups: no variant is of group few"),
        ({"family": [CONTRAST | {"variant": "d"}]}, "family.0.variant: d is none of the plan's variants"),
        ({"family": [CONTRAST | {"variant": "c"}]}, "family.0.variant: c is the reference"),
        ({"family": [CONTRAST | {"metric": "x"}]}, "family.0.metric: x is no endpoint that says what is better"),
        ({"family": [CONTRAST]}, "family.0: b shares less than 2 seeds with a"),
        ({"convergence": {"metric": "loss", "target": 1, "lines": {"a": ["d"]}}}, "convergence.lines.a: d is none of"),
        ({"convergence": {"metric": "x", "target": 1, "lines": {"a": ["a"]}}}, "convergence.metric: x is none of"),
    ],
)  # fmt: skip
def test_a_wrong_plan_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        load_plan(write(tmp_path, change))
    assert message in str(error.value) and "plan.yaml" in str(error.value)


def test_a_plan_extends_another(tmp_path: Path) -> None:
    write(tmp_path)
    larger = tmp_path / "larger.yaml"
    changes = {"extends": "plan.yaml", "name": "larger", "clips": {"train": {"clips": 8}}, "seeds": [0, 1]}
    larger.write_text(yaml.safe_dump(changes | {"variants": {"b": {"label": "B"}, "d": {}}}))
    plan = load_plan(larger)
    assert plan.name == "larger" and plan.seeds == [0, 1] and list(plan.variants) == ["a", "b", "c", "d"]
    assert (plan.clips["train"].seed, plan.clips["train"].clips, plan.clips["held"].clips) == (1, 8, 4)
    assert plan.variants["b"].label == "B" and plan.variants["b"].overrides == {"train.steps": 3}
    assert "extends" not in dump_plan(plan)
    less = changes | {"only": ["more", "a"], "probe": None, "endpoints": [{"name": "x", "path": "metrics.x"}]}
    larger.write_text(yaml.safe_dump(less | {"variants": {"d": {"group": "more"}, "e": {"group": "more"}}}))
    plan = load_plan(larger)
    assert list(plan.variants) == ["a", "d", "e"] and plan.probe == {} and "only" not in dump_plan(plan)
    larger.write_text(yaml.safe_dump(changes | {"only": ["z"]}))
    with pytest.raises(
        UserError, match=r"larger\.yaml: only: \['z'\]: give a list of variants or groups, of a, b, c, main"
    ):
        load_plan(larger)
    (tmp_path / "largest.yaml").write_text("extends: larger.yaml")
    with pytest.raises(UserError, match=r"largest\.yaml: extends .*larger\.yaml, which extends another"):
        load_plan(tmp_path / "largest.yaml")
    larger.write_text("extends: none.yaml")
    with pytest.raises(UserError, match=r"none\.yaml: cannot read this configuration file"):
        load_plan(larger)


@pytest.mark.parametrize(
    ("setting", "name", "label"),
    [
        (GuidanceSetting(form="none"), "none", "none"),
        (GuidanceSetting(form="dual", text_scale=2.5, context_scale=3), "dual_2.5_3", "dual 2.5, 3"),
        (GuidanceSetting(form="context", context_scale=(2, 4)), "context_2_4", "context 2, 4"),
    ],
)
def test_a_setting_of_guidance_has_a_files_name_and_one_for_people(
    setting: GuidanceSetting, name: str, label: str
) -> None:
    assert (setting.name, setting.label) == (name, label)
