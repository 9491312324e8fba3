"""Every number that a user gives, of options, configurations, plans and models, has a range with two ends."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel, BeforeValidator, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from mtv.curriculum import CurriculumConfig
from shared.ablation.plan import AblationPlan
from shared.curation.config import DemixConfig
from shared.evaluation.study import StudyConfig
from shared.utils.cli import Options
from shared.utils.config import TrainConfig
from shared.utils.config_file import section_of
from shared.utils.errors import UserError
from shared.utils.model_sections import ControlSettings, DeepSpeedSettings, ModelSettings
from shared.utils.ranges import check_range

ROOT = Path(__file__).parents[3]
SCRIPTS = [path.stem for path in sorted((ROOT / "scripts").glob("*.py"))]
#: Numbers that may be below zero, and why.
SIGNED = {
    "seed": "any whole number of 64 bits is a seed",
    **dict.fromkeys(("seeds", "group_seeds"), "the same"),
    "target": "a score of any sign",
    "local_rank": "a launcher says -1 where there is none",
    "mean": "of logit(u)",
    "high_mean": "of logit(u)",
    **dict.fromkeys(
        (
            "text_scale",
            "context_scale",
            "speech_scale",
            "effects_scale",
            "music_scale",
            "guidance_scale",
            "text_scale_per_task",
            "context_scale_per_task",
            "track_scale",
        ),
        "guidance away from it",
    ),
}
#: Numbers that may be zero, and what it means.
ZERO = {
    "max_grad_norm": "leave the gradients",
    "ema": "keep no average",
    "weight_decay": "none",
    "warmup": "none",
    "min_lr_ratio": "fall to zero",
    "betas": "no memory",
    "dropout": "none",
    "every": "no validation",
    "clips": "of a validation",
    "catch": "no catch trials",
    "video": "a stream's loss does not count",
    "audio": "the same",
    "tasks": "a task without weight",
    "moving": "all places alike",
    "context_tokens": "none",
    "skip_layers": "the first",
    **dict.fromkeys(("epsilon", "v"), "an error that does not count"),
    "interaction_blocks": "none",
    "stage": "of ZeRO",
    "conflict": "none",
    "first": "step of a curve",
    "seconds": "from the start",
    "digits": "none",
    "step_cache": "a stream of which nothing is left out",
    "text_layers": "no refiner",
    "high_share": "never",
    "fade": "a cut",
    "interval": "the lowest noise level",
    "rescale": "none",
    **dict.fromkeys(("gpus", "frames"), "refused as '0 GPUs' and '0 frames'"),
    **dict.fromkeys(
        ("text_dropout", "text_dropout_per_task", "audio_caption_rate", "clean_frames", "clean_spans", "keyframes"),
        "never",
    ),
    **dict.fromkeys(("most_black", "most_frozen", "most_clipped", "most_silent", "most_voice_over"), "none may be"),
    **dict.fromkeys(("least_found", "least_probability", "least_motion", "least_correlation"), "all counts"),
    "least_share": "what 0.4 s is enough for",
    **dict.fromkeys(("least_speech", "least_face", "most_lag", "most_picture", "most_sound"), "the same"),
    **dict.fromkeys(("held_out", "most_unseen"), "none"),
    **dict.fromkeys(("plain_share", "anchor"), "never"),
    **dict.fromkeys(("dropout_all", "drop_speaker_prob", "drop_from_caption"), "never"),
}
#: Numbers whose options belong to another model of this list, which checks them.
ELSEWHERE = {
    "options": "of probe.py",
    **dict.fromkeys(("keep", "keep_audio"), "spans, of which no end is free: tests/ccl/test_generate.py"),
}


def option_models() -> set[type[BaseModel]]:
    for name in SCRIPTS:
        importlib.import_module(name)
    waiting, found = [Options], set[type[BaseModel]]()
    while waiting:
        kind = waiting.pop()
        found.add(kind)
        waiting += kind.__subclasses__()
    ours = {kind.__module__.partition(".")[0] for kind in found} & {"ccl", "mtv", "shared", *SCRIPTS}
    return {kind for kind in found if kind.__module__.partition(".")[0] in ours}


def fields(kind: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, FieldInfo]]:
    """Every dotted name, last name and field, those of sections too."""
    for name, field in kind.model_fields.items():
        sections = [part for part in leaves(field.annotation) if isinstance(part, type) and issubclass(part, BaseModel)]
        for section in sections:
            yield from fields(section, f"{prefix}{name}.")
        if not sections:
            yield f"{kind.__name__}:{prefix}{name}", name, field


def leaves(kind: Any) -> list[Any]:
    """The plain types inside a type."""
    if get_origin(kind) is Annotated:
        return leaves(get_args(kind)[0])
    if get_origin(kind) is Literal:
        return []
    parts = [part for part in get_args(kind) if part not in (NoneType, Ellipsis)]
    return [leaf for part in parts for leaf in leaves(part)] if parts else [kind]


def shaped(kind: Any, value: float, between: str = ",") -> Any:
    """`value` in the place of every number of a type; `between` the numbers of a word."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        rules = [rule for rule in parts[1:] if isinstance(rule, BeforeValidator)]
        shape = shaped(parts[0], value, between)
        return shape if not rules else word(shape, between)
    if origin in (Union, UnionType):
        return shaped(next(part for part in parts if part is not NoneType), value, between)
    if origin is dict:
        key = get_args(parts[0])[0] if get_origin(parts[0]) is Literal else 2 if int in leaves(parts[0]) else "x"
        return {key: shaped(parts[1], value)}
    if origin is list:
        return [shaped(parts[0], value)] * 3
    return tuple(shaped(part, value) for part in parts) if origin is tuple else value


def word(shape: Any, between: str) -> str:
    """As options that take their word apart read it: "1,1" or "1x1"."""
    return between.join(map(str, shape if isinstance(shape, tuple | list) else [shape]))


def refuses(field: FieldInfo, value: float) -> bool:
    kind = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation  # type: ignore[valid-type]
    rules = [rule for rule in field.metadata if isinstance(rule, BeforeValidator)]
    whole = float not in leaves(field.annotation) and value == value // 1
    value = int(value) if whole and math.isfinite(value) else value
    for between in ",x":
        given = shaped(field.annotation, value, between)
        given = word(given, between) if rules else given
        try:
            TypeAdapter(kind, config={"allow_inf_nan": False}).validate_python(given)
        except (ValidationError, UserError, ValueError, OverflowError):
            continue
        return False
    return True


MODELS = [
    TrainConfig,
    CurriculumConfig,
    DemixConfig,
    AblationPlan,
    StudyConfig,
    ModelSettings,
    ControlSettings,
    DeepSpeedSettings,
]
NUMBERS = {
    place: (name, field)
    for kind in [*MODELS, *sorted(option_models(), key=lambda kind: (kind.__name__, kind.__module__))]
    for place, name, field in fields(kind)
    if {int, float} & set(leaves(field.annotation)) and name not in ELSEWHERE
}


def test_the_walk_meets_every_kind_of_number() -> None:
    known = {place.partition(":")[2] for place in NUMBERS}
    assert {"data.fps", "optimizer.betas", "stages.lr", "variants.x"} - known == {"variants.x"}
    assert {"text_scale", "duration", "guidance.settings.text_scale", "video.eps", "tracks", "size"} <= known
    assert len(NUMBERS) > 150 and section_of(TrainConfig.model_fields["data"])


@pytest.mark.parametrize("place", NUMBERS)
def test_no_number_is_infinite_absurd_or_of_the_wrong_sign(place: str) -> None:
    name, field = NUMBERS[place]
    bad = [math.nan, math.inf, -math.inf, 1e30, -1e30]
    bad += [] if name in SIGNED else [-1]
    bad += [] if name in SIGNED or name in ZERO else [0]
    assert [value for value in bad if not refuses(field, value)] == []
    assert not all(refuses(field, good) for good in (0.01, 0.5, 1, 2, 16, 48, 1000))


@pytest.mark.parametrize("place", NUMBERS)
def test_no_exception_is_idle(place: str) -> None:
    """What may be zero or below it is taken somewhere."""
    name, _ = NUMBERS[place]
    same = [field for other, field in NUMBERS.values() if other == name]
    assert name not in ZERO or any(not refuses(field, 0) for field in same)
    assert name not in SIGNED or any(not refuses(field, -1) for field in same)


BASE = {"output": "o", "model": {}, "data": {"manifest": "m"}, "train": {"steps": 10}}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optimizer.lr=.inf", "optimizer.lr = inf: Input should be a finite number; it is number above 0 to 1"),
        (
            "optimizer.betas=[0.9, 1]",
            "optimizer.betas.1 = 1: Input should be less than 1; it is [number from 0 below 1",
        ),
        ("train.token_budget=-3", "train.token_budget = -3: Input should be greater than or equal to 1; it is whole"),
        ("data.fps=1e9", "data.fps = '1e9': Input should be less than or equal to 240; it is number above 0 to 240"),
        ("data.size=[0, 64]", "data.size.0 = 0: Input should be greater than or equal to 1"),
        ("train.steps=.nan", "train.steps = nan: Input should be a finite number; it is whole number from 1"),
        ("train.shard_size=lots", "lots: a whole number of KB, MB or GB is needed, as 5GB"),
        ("model.video.num_layers=0", "model.video.num_layers = 0: Input should be greater than or equal to 1"),
        ("model.video.attention_head_dim=7", "model.video.attention_head_dim = 7: Input should be a multiple of 2"),
        ("model.audio.time_unit=.inf", "model.audio.time_unit = inf: Input should be a finite number"),
        ("model.audio.strange={deep: [.nan]}", "model.audio.strange.deep.0 = nan: a finite number is needed"),
        ("control={tokens: -1}", "control.tokens = -1: Input should be greater than or equal to 1"),
        ("deepspeed={zero_optimization: {stage: 7}}", "deepspeed.zero_optimization.stage = 7: Input should be less"),
        ("deepspeed={aio: {x: .inf}}", "deepspeed.aio.x = inf: a finite number is needed"),
        ("seed=99999999999999999999", "seed = 99999999999999999999: Input should be less than"),
    ],
)
def test_the_range_is_told(tmp_path: Path, override: str, said: str) -> None:
    import yaml

    (tmp_path / "c.yaml").write_text(yaml.safe_dump(BASE))
    with pytest.raises(UserError) as error:
        TrainConfig.load(tmp_path / "c.yaml", [override])
    assert said in str(error.value)


@pytest.mark.parametrize("file", sorted((ROOT / "configs/train").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_numbers_are_in_range(file: Path) -> None:
    kind = CurriculumConfig if "stages:" in file.read_text() else TrainConfig
    assert kind.load(file).train.steps > 0


@pytest.mark.parametrize("value", [0, 11, 1.5, True, "3", None, math.nan, math.inf])
def test_what_is_no_whole_number_in_the_range_is_refused(value: object) -> None:
    with pytest.raises(UserError, match=r"^layers is .*; a whole number from 1 to 10 is needed$"):
        check_range("layers", value, 1, 10)


def test_what_lies_in_the_range_is_allowed() -> None:
    check_range("layers", 1, 1, 10)
    check_range("scale", 0.5, 0, 1, whole=False)
    with pytest.raises(UserError, match=r"^scale is nan; a number from 0 to 1 is needed$"):
        check_range("scale", math.nan, 0, 1, whole=False)
