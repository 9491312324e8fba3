from __future__ import annotations

import pytest
import yaml
from pydantic import ValidationError

from shared.utils.config import TrainConfig, dump_config
from shared.utils.errors import UserError

MINIMAL = {"output": "out", "model": {"width": 8}, "data": {"manifest": "clips"}, "train": {"steps": 100}}


def write(tmp_path, **changes):
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump({**MINIMAL, **changes}))
    return path


def test_overrides_are_yaml_and_reach_into_sections(tmp_path):
    config = TrainConfig.load(
        write(tmp_path),
        [
            "train.steps=40",
            "data.size=[32, 48]",
            "optimizer.lr=1e-4",
            "init=null",
            "tasks={t2v: 2}",
            "data.manifest=[a, b]",
        ],
    )
    assert config.train.steps == 40 and config.data.size == (32, 48) and config.optimizer.lr == 1e-4
    assert config.tasks == {"t2v": 2.0} and [str(path) for path in config.data.manifests] == ["a", "b"]


def test_a_dumped_config_reads_back_equal(tmp_path):
    config = TrainConfig.load(write(tmp_path, phases=[{"name": "a", "until": 1, "tasks": {"t2a": 1}}]))
    (tmp_path / "again.yaml").write_text(dump_config(config))
    assert TrainConfig.load(tmp_path / "again.yaml") == config


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.step=4", ["train.yaml", "unknown key train.step;", "train.steps"]),
        ("optimiser.lr=1", ["unknown key optimiser", "optimizer"]),
        ("train.steps=many", ["train.steps", "'many'"]),
        ("train.steps", ["key=value"]),
        ("output.x=1", ["output has no keys"]),
        ("tasks={t2x: 1}", ["tasks.t2x"]),
        ("tasks={t2v: 0}", ["at least one task weight"]),
        ("model=nowhere.yaml", ["nowhere.yaml", "no such file"]),
        ("deepspeed={gradient_clipping: 1}", ["deepspeed.gradient_clipping", "train.max_grad_norm"]),
        ("deepspeed={zero: 1}", ["deepspeed.zero is none of"]),
        ("phases=[{name: a, until: 0.5, tasks: {t2v: 1}}]", ["end at steps [50]", "100"]),
        ("train.max_grad_norm=[", ["not YAML"]),
        ("reinit=[holistic]", ["reinit: holistic", "there is no init"]),
        ("tracks={drop_from_caption: {'(': 0.5}}", ["tracks.drop_from_caption", "'('", "no regular expression"]),
    ],
)
def test_bad_overrides_are_one_clear_error(tmp_path, override, words):
    with pytest.raises(UserError) as error:
        TrainConfig.load(write(tmp_path), [override])
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [("output: [", "not valid yaml"), ("- 1", "expected keys"), ("output: x", "model is missing")],
)
def test_bad_files_are_named(tmp_path, content, words):
    (tmp_path / "bad.yaml").write_text(content)
    with pytest.raises(UserError, match=f"bad.yaml: .*{words}"):
        TrainConfig.load(tmp_path / "bad.yaml")
    with pytest.raises(UserError, match=r"absent.yaml: cannot read"):
        TrainConfig.load(tmp_path / "absent.yaml")


def test_model_and_deepspeed_files_are_found_and_overridable(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "tiny.yaml").write_text("width: 16\ndepth: 2\n")
    (tmp_path / "zero.json").write_text('{"zero_optimization": {"stage": 2}}')
    (tmp_path / "train").mkdir()
    path = write(tmp_path / "train", model="model/tiny.yaml", deepspeed="zero.json")
    config = TrainConfig.load(path, ["model.width=32"])
    assert config.model == {"width": 32, "depth": 2} and config.deepspeed["zero_optimization"]["stage"] == 2


def test_phases_end_where_they_say():
    phases = [
        {"name": "t2v", "until": 0.25, "tasks": {"t2v": 1}},
        {"name": "t2a", "until": 40, "tasks": {"t2a": 1}},
        {"name": "joint", "tasks": {"t2av": 1}, "lr_scale": 0.5},
    ]
    config = TrainConfig.model_validate({**MINIMAL, "phases": phases})
    assert [config.phase_at(step).name for step in (0, 24, 25, 39, 40, 99)] == [
        "t2v",
        "t2v",
        "t2a",
        "t2a",
        "joint",
        "joint",
    ]


def test_text_dropout_per_task_overrides_the_rate():
    config = TrainConfig.model_validate({**MINIMAL, "text_dropout_per_task": {"v2a": 0.0}})
    assert config.text_dropout_for("v2a") == 0.0 and config.text_dropout_for("t2v") == 0.1


def test_task_part_needs_a_model_with_parts():
    with pytest.raises(ValidationError, match=r"tasks: task part needs a model with parts; set model\.parts"):
        TrainConfig.model_validate({**MINIMAL, "tasks": {"part": 0.1, "t2av": 1}})
    with_parts = {**MINIMAL, "model": {"parts": ["speech"]}}
    assert TrainConfig.model_validate({**with_parts, "tasks": {"part": 0.1}}).parts == ["speech"]
    assert TrainConfig.model_validate({**with_parts, "tasks": {"t2av": 1}}).parts == []
