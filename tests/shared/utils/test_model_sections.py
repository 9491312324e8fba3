"""What a configuration says of a model is in range; what has no range is the model's own to judge."""

from __future__ import annotations

from dataclasses import fields
from inspect import signature
from typing import Any

import pytest

from ccl.transformer import DualStreamTransformer
from mtv.control import MSTControlNet
from shared.nn.dit import StreamConfig
from shared.utils.model_sections import ControlSettings, ModelSettings, StreamSettings, check_numbers


def numbers(kind: Any) -> set[str]:
    """Names of the parameters that are numbers, or lists of them."""
    found = signature(kind).parameters.items()
    words = ("int", "float", "Sequence[int]")
    return {name for name, given in found if any(word in str(given.annotation) for word in words)}


def test_every_number_of_the_models_has_a_range() -> None:
    assert {part.name for part in fields(StreamConfig) if part.type not in ("str", "bool", str, bool)} == set(
        StreamSettings.model_fields
    )
    assert numbers(DualStreamTransformer) <= set(ModelSettings.model_fields)
    assert numbers(MSTControlNet) == set(ControlSettings.model_fields)


def test_other_keys_are_left_to_the_model() -> None:
    settings = {"fusion": "cca", "video": {"grid": "time", "skip": True}}
    check_numbers("model", settings, ModelSettings)
    check_numbers("control", None, ControlSettings)
    settings["video"]["num_layers"] = 0
    with pytest.raises(ValueError, match=r"model.video.num_layers = 0"):
        check_numbers("model", settings, ModelSettings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"video": {"eps": 0}}, "model.video.eps = 0: .*greater than 0; it is number above 0 to 0.1"),
        ({"video": {"patch_size": [1, 2]}}, "model.video.patch_size.2 = .*Field required"),
        ({"audio": {"num_layers": 10**9}}, "model.audio.num_layers = 1000000000: .*from 1 to 4 096"),
        ({"audio": "narrow"}, "model.audio = 'narrow': Input should be a valid dictionary"),
        ({"extra": [{"x": float("nan")}]}, "model.extra.0.x = nan: a finite number is needed"),
    ],
)
def test_a_number_out_of_range_is_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_numbers("model", settings, ModelSettings)
