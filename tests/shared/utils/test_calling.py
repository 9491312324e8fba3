"""Two names for one thing, seeds of generators, latents that a callback is shown."""

from __future__ import annotations

import pytest
import torch

from shared.utils.calling import (
    StepEnd,
    asked_frames,
    callback_names,
    refuse_unknown,
    repeated,
    said_scales,
    seeds_of,
    with_arguments,
)
from shared.utils.errors import UserError


def call(size: int = 0, num_frames: int = 0) -> None:
    """Do it.

    {arguments}

    Then end.
    """


def test_the_text_of_arguments_stands_in_the_docstring() -> None:
    @with_arguments("Args:\n    size: of it.\n")
    def other() -> None:
        """Do it.

        {arguments}

        End.
        """

    assert other.__doc__ == "Do it.\n\nArgs:\n    size: of it.\n\nEnd."


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("num_frame", "unknown keyword num_frame; is num_frames meant"),
        ("qwertz", "unknown keyword qwertz; see help"),
        ("sigmas", "sigmas has no meaning here"),
        ("length", "length: size says it"),
    ],
)
def test_an_unknown_keyword_is_told_with_what_would_be_right(name: str, told: str) -> None:
    refuse_unknown({}, call, {})
    with pytest.raises(UserError, match=told):
        refuse_unknown({name: 1}, call, {"length": "size says it"})


def test_a_length_in_seconds_or_in_frames() -> None:
    assert asked_frames(None, None, 16) is None
    assert asked_frames(1.5, None, 16) == 24 and asked_frames(None, 7, 16) == 7
    for wrong in ((1.0, 7), (None, 0), (None, 2.0), (None, True), (0.0, None), (float("inf"), None)):
        with pytest.raises(UserError):
            asked_frames(*wrong, 16)


def test_scales_that_were_said() -> None:
    assert said_scales({"a": 0, "b": None}, None) == {"a": 0} and said_scales({"b": None}, 5) == {}
    with pytest.raises(UserError, match="guidance and a say the same"):
        said_scales({"a": 0}, 5)
    for wrong in (True, "2", float("nan")):
        with pytest.raises(UserError, match=r"a is .*; a finite number is needed"):
            said_scales({"a": wrong}, None)


def test_seeds_of_generators() -> None:
    pair = [torch.Generator().manual_seed(seed) for seed in (4, 2)]
    assert seeds_of(None, pair, 2) == [4, 2] and seeds_of(None, torch.Generator().manual_seed(4), 2) == [4, 5]
    used = torch.Generator().manual_seed(4)
    first, second = seeds_of(None, used, 1), seeds_of(None, used, 1)
    assert first == [4] and second != [4] and seeds_of(None, None, 2) == [0, 1] and seeds_of([7, 3], None, 2) == [7, 3]


def test_each_prompt_so_many_times() -> None:
    assert repeated(["a", "b"], 2) == ["a", "a", "b", "b"]
    with pytest.raises(UserError, match="num_videos_per_prompt is 0"):
        repeated(["a"], 0)


def test_a_callback_is_shown_and_gives_back_what_it_names() -> None:
    assert callback_names(None) == ("video", "audio") and callback_names(None, ["video"]) == ("video",)
    with pytest.raises(UserError, match=r"'audio'; choose among video, latents$"):
        callback_names(["audio"], ["video"])
    now = {"video": torch.zeros(1)}
    StepEnd(lambda pipe, step, u, shown: {name: x + step for name, x in shown.items()}, ("latents",))(None, 3, 0.5, now)
    assert now["video"] == 3
    StepEnd(None, ("video",))(None, 3, 0.5, now)
    with pytest.raises(UserError, match="a callback gave back 'x'"):
        StepEnd(lambda *_: {"x": 1}, ("video",))(None, 0, 1.0, now)
