"""The curriculum: five stages in one file, each a run of its own from what the last one left."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mtv.curriculum import BackboneConfig, CurriculumConfig
from shared.utils.errors import UserError

ROOT = Path(__file__).parents[2]
BASE = {
    "output": "out",
    "init": "start",
    "model": {},
    "control": {},
    "data": {"manifest": "clips"},
    "optimizer": {"lr": 1e-3},
    "stages": [
        {"name": "Basic face", "subset": "basic_face", "steps": 3, "lr": 1e-4},
        {"name": "multiple characters", "subset": ["a", "b"], "steps": 5, "trainable": ["control"]},
        {"name": "ambience", "steps": 7, "trainable": ["transformer", "control"], "tasks": {"mtv": 1, "t2av": 1}},
    ],
}


def load(tmp_path: Path, *overrides: str, **changes: object) -> CurriculumConfig:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({**BASE, **changes}))
    return CurriculumConfig.load(file, list(overrides))


def test_each_stage_is_a_run_from_the_checkpoint_of_the_last(tmp_path):
    config = load(tmp_path)
    stages = [config.stage(i) for i in range(3)]
    assert [stage.output for stage in stages] == ["out/1_basic_face", "out/2_multiple_characters", "out/3_ambience"]
    assert [stage.init for stage in stages] == [
        "start",
        "out/1_basic_face/checkpoint",
        "out/2_multiple_characters/checkpoint",
    ]
    assert [stage.train.steps for stage in stages] == [3, 5, 7]
    assert [stage.optimizer.lr for stage in stages] == [1e-4, 1e-3, 1e-3]
    assert [stage.data.subsets for stage in stages] == [["basic_face"], ["a", "b"], []]
    assert [stage.trainable for stage in stages] == [["control", "attention"], ["control"], ["transformer", "control"]]
    assert [stage.tasks for stage in stages] == [{"mtv": 1}, {"mtv": 1}, {"mtv": 1, "t2av": 1}]
    assert [stage.train.export_dtype for stage in stages] == ["fp32", "fp32", "bf16"]
    assert {stage.codecs for stage in stages} == {"start"} and {stage.data.latents for stage in stages} == {
        "out/latents"
    }


def test_a_stage_may_set_what_no_clip_depends_on(tmp_path):
    chosen = {"flow.high_share": 0.2, "tracks.dropout": 0.5, "optimizer.warmup": 7, "data.max_duration": 2}
    first = BASE["stages"][0] | {"settings": chosen}
    later = BASE["stages"][1] | {"settings": {"reinit": ["holistic"], "train.ema": 0.9}}
    config = load(tmp_path, stages=[first, later, BASE["stages"][2]])
    one, two, three = (config.stage(i) for i in range(3))
    assert (one.flow.high_share, one.tracks.dropout, one.optimizer.warmup, one.optimizer.lr) == (0.2, 0.5, 7, 1e-4)
    assert (one.data.max_duration, two.data.max_duration) == (2, None)
    assert (two.flow.high_share, two.reinit, two.train.ema, three.reinit) == (0.0, ["holistic"], 0.9, [])
    for settings, told in (
        (
            {"model.cca_heads": 2},
            r"stage 'Basic face': model.cca_heads is the same in all stages; of a stage are data.max_duration, flow",
        ),
        ({"data.size": [8, 8]}, "data.size is the same in all stages"),
        ({"keyframes": 0.5}, "keyframes is the same in all stages"),
        ({"tracks.encoders": {}}, "tracks.encoders is the same"),
        ({"flow.hig_share": 0.5}, "stage 'Basic face': unknown key flow.hig_share; the nearest known key is flow.high"),
        ({"flow.high_share": 2}, "stage 'Basic face': flow.high_share = 2: "),
        ({"flow.mean.x": 2}, "stage 'Basic face': flow.mean.x: mean has no keys of its own"),
    ):
        with pytest.raises(UserError, match=told):
            load(tmp_path, stages=[BASE["stages"][0] | {"settings": settings}])


def test_a_stage_trains_on_its_own_clips_or_on_those_before_too(tmp_path):
    named = [{"name": name, "subset": clips, "steps": 1} for name, clips in (("a", "x"), ("b", ["y", "x"]), ("c", "z"))]
    own, all_before = (load(tmp_path, f"cumulative={told}", stages=named) for told in ("false", "true"))
    assert [own.stage(i).data.subsets for i in range(3)] == [["x"], ["y", "x"], ["z"]]
    assert [all_before.stage(i).data.subsets for i in range(3)] == [["x"], ["x", "y"], ["x", "y", "z"]]
    everything = load(tmp_path, "cumulative=true", stages=[named[0], {"name": "b", "steps": 1}, named[2]])
    assert [everything.stage(i).data.subsets for i in range(3)] == [["x"], [], []]


@pytest.mark.parametrize("name", ["mtv_cogvideox", "mtv_wan14b"])
def test_the_papers_stages_are_sound_event_then_ambience(name):
    config = CurriculumConfig.load(ROOT / f"configs/train/{name}.yaml")
    assert not config.cumulative
    assert [stage.subset for stage in config.stages[-2:]] == ["sound_event", "ambience"]


def test_stages_can_be_overridden_one_by_one(tmp_path):
    assert load(tmp_path, "stages.1.steps=11").stage(1).train.steps == 11
    with pytest.raises(UserError, match=r"stages\.3\.steps: 3 is none of the list's entries 0 to 2"):
        load(tmp_path, "stages.3.steps=11")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": {"mtv": 1.0}}, "tasks has no place beside stages"),
        ({"train": {"steps": 4}}, "train.steps has no place beside stages"),
        ({"stages": []}, "stages"),
        ({"stages": [{"name": "a"}]}, r"stages.0.steps is missing"),
        ({"stages": [{"name": "a b", "steps": 1}, {"name": "a-b", "steps": 1}]}, "they must differ"),
        ({"stages": [{"name": "a", "steps": 1, "subst": "x"}]}, "subst"),
        ({"stages": [{"name": "a", "steps": 1, "trainable": ["everything"]}]}, "everything"),
        ({"control": None}, "control network"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        config = load(tmp_path, **changes)
        try:
            config.stage(0)
        except ValueError as error:  # found when the stage's own configuration is made
            raise UserError(str(error)) from None


def on_backbone(tmp_path: Path, **changes: object) -> CurriculumConfig:
    mtv = [stage | {"tasks": {"mtv": 1}} for stage in BASE["stages"]]
    raw = {**BASE, "backbone": "folder", "stages": mtv, **changes}
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({key: value for key, value in raw.items() if key not in ("model", "init")}))
    return CurriculumConfig.load(file, [])


def test_a_backbone_stands_in_the_place_of_the_model(tmp_path):
    config = on_backbone(tmp_path)
    stages = [config.stage(i) for i in range(3)]
    assert all(isinstance(stage, BackboneConfig) and stage.backbone == "folder" for stage in stages)
    assert [stage.init for stage in stages] == [
        None,
        "out/1_basic_face/checkpoint",
        "out/2_multiple_characters/checkpoint",
    ]
    assert {stage.codecs for stage in stages} == {None} and stages[0].model == {}
    assert not any(one.routes_text for one in (config, *stages))  # it reads text and video in one attention
    both = on_backbone(tmp_path, diffusion_loss={"epsilon": 0, "v": 1})
    assert (both.stage(1).diffusion_loss.epsilon, both.stage(1).diffusion_loss.v) == (0, 1)
    assert (stages[0].diffusion_loss.epsilon, stages[0].diffusion_loss.v) == (1, 0)  # the paper's
    joint = load(tmp_path)
    assert "diffusion_loss" not in joint.stage(0).model_dump()
    assert "backbone" not in joint.stage(0).model_dump() and joint.routes_text and joint.stage(0).routes_text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flow": {"video_shift": 3.0}}, "flow has no place beside backbone"),
        ({"codecs": "some"}, "codecs has no place beside backbone"),
        ({"stages": BASE["stages"]}, "stage 'ambience': t2av needs the joint model"),
        ({"control": None}, "audio control needs a control network"),
        ({"diffusion_loss": {"epsilon": 0}}, "epsilon or v must count, with a weight above 0"),
        ({"diffusion_loss": {"v": -1}}, r"diffusion_loss\.v = -1"),
        ({"data": {"shards": "latents"}}, "data.shards hold no embeddings for a CogVideoX backbone"),
    ],
)
def test_what_has_no_place_beside_a_backbone_is_refused(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        on_backbone(tmp_path, **changes)
    with pytest.raises(UserError, match="model has no place beside backbone"):
        load(tmp_path, backbone="folder")
    with pytest.raises(UserError, match="diffusion_loss is a backbone's, and there is none"):
        load(tmp_path, diffusion_loss={"v": 1})


@pytest.mark.parametrize("name", ["puppets_mtv", "mtv_cogvideox"])
def test_the_curricula_have_the_papers_five(name):
    config = CurriculumConfig.load(ROOT / f"configs/train/{name}.yaml")
    names = ["basic face", "single character", "multiple characters", "sound event", "environmental ambience"]
    assert [stage.name for stage in config.stages] == names
    for index in range(5):
        config.stage(index)
