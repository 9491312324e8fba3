"""Models of few steps: what their config says, and what of a call does not suit them."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

from shared.nn.few_steps import FewSteps, warn
from shared.nn.flow import u_grid
from shared.utils.errors import UserError

HELD = {"steps": 4, "shifts": [3.0, 1.5], "guidance": {"t2av": {"text_scale": [2.5, 2.5]}, "mtv": {}}}


def model(**held: Any) -> SimpleNamespace:
    return SimpleNamespace(config={"distilled": HELD | held})


def read(**held: Any) -> FewSteps:
    few = FewSteps.of(model(**held))
    assert few is not None
    return few


@pytest.fixture(autouse=True)
def anew() -> None:
    warn.cache_clear()


def test_it_is_read_as_it_was_written() -> None:
    assert read().as_config() == HELD
    assert FewSteps.of(SimpleNamespace(config={})) is None
    assert FewSteps.of(SimpleNamespace(config={"distilled": None})) is None


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"steps": "four"}, {"shifts": [3.0]}, {"shifts": [0, 1]}, {"shifts": 3}, {"guidance": ["t2av"]}],
)
def test_a_damaged_one_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"transformer/config\.json: distilled"):
        read(**wrong)


def test_only_eulers_method_jumps() -> None:
    few, euler = read(), FlowMatchEulerDiscreteScheduler(shift=3.0)
    few.check("t2av", {"video": euler, "audio": FlowMatchEulerDiscreteScheduler()})
    unipc = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    with pytest.raises(UserError, match=r"the audio's solver is UniPCMultistepScheduler; .* needs FlowMatchEuler"):
        few.check("t2av", {"video": euler, "audio": unipc})
    with pytest.raises(UserError, match=r"with stochastic_sampling; .* without it"):
        few.check("mtv", {"video": FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)})


def test_what_it_was_not_made_for_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    few, euler = read(), FlowMatchEulerDiscreteScheduler(shift=3.0)
    with caplog.at_level(logging.WARNING):
        few.check("t2av", {"video": euler})
        euler.set_timesteps(sigmas=u_grid(3).numpy())
        few.check_grid("video", euler)
        assert not caplog.records
        for _ in range(2):
            few.check("v2a", {"audio": euler}, negative="a drum")
            few.check_grid("audio", euler)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 3
    assert said[0] == "task v2a: this model was distilled for few steps of t2av, mtv alone"
    assert said[1].startswith("the negative prompt has no effect")
    assert said[2].startswith("the audio's noise levels 1.000, 0.857, 0.600 are not those of shift 1.5")
