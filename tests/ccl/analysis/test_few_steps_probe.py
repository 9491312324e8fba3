"""The probe of few steps on tiny pipelines: a model at its own steps, and far from another's."""

from __future__ import annotations

import pytest
import torch
from small import STREAM, pipeline, randomised
from tiny import noise

from ccl.analysis.few_steps_probe import FewStepsProbe
from ccl.guidance import Form, Guidance
from ccl.pipeline import CCLPipeline
from ccl.transformer import DualStreamTransformer
from shared.data.dataset import Sample
from shared.utils.errors import UserError


def model(steps: int | None = None) -> CCLPipeline:
    """A pipeline with random weights, distilled for `steps`."""
    torch.manual_seed(0)
    more = {} if steps is None else {"average": True}
    streams = STREAM | more | {"in_channels": 4}, STREAM | more | {"in_channels": 5}
    held = {"steps": steps, "shifts": [1.0, 1.0], "guidance": {"t2av": {}, "a2v": {}, "v2a": {}}} if steps else None
    made = DualStreamTransformer(*streams, cca_heads=2, cca_head_dim=12, context_tokens=2, distilled=held)
    return pipeline(randomised(made, 0.1))


def clip(name: str, frames: int = 5) -> Sample:
    sound = noise(f"s{name}", 1, 1000 * frames) / 10
    return Sample(name, noise(f"v{name}", 3, frames, 32, 32).clamp(-1, 1), sound, "a bell", "a bell rings", True, True)


def test_distances_are_of_the_latents_to_the_teachers_of_many_steps() -> None:
    student, teacher = model(2), model()
    probe = FewStepsProbe(student, teacher, [clip("a"), clip("b", 9)], 3, 2, 0)
    found = probe.measure()
    assert set(found) == {"t2av", "a2v", "v2a"}
    assert set(found["a2v"]) == {"video, 2 steps", "video, teacher's 2", "video, nearer by"}
    one = found["t2av"]
    assert set(one["audio, 2 steps"]["per_clip"]) == {"a", "b"}
    for name in "ab":
        own, hasty, nearer = (one[f"video, {of}"]["per_clip"][name] for of in ("2 steps", "teacher's 2", "nearer by"))
        assert own > 0 and hasty > 0 and nearer == pytest.approx(hasty - own)


def test_a_teacher_of_as_many_steps_is_at_no_distance() -> None:
    """A student that is the teacher without guidance, at the teacher's steps."""
    student = model(2)
    probe = FewStepsProbe(student, student, [clip("a")], 3, 1, 0)
    probe.reference = probe.reference._replace(steps=2)
    assert probe.measure()["t2av"]["video, 2 steps"]["mean"] == 0
    assert Guidance().settled(True, few_steps=True).form is Form.NONE


def test_what_has_no_number_of_few_steps_is_refused() -> None:
    with pytest.raises(UserError, match="--checkpoint is not distilled"):
        FewStepsProbe(model(), model(), [clip("a")], 16, 1, 0)
    with pytest.raises(UserError, match="--steps 4: more steps of the teacher are needed than 4"):
        FewStepsProbe(model(4), model(), [clip("a")], 4, 1, 0)
