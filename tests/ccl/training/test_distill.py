"""Few-step training: the zero start, targets against a flow whose map is known, what is clean, the average."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny import AUDIO, AUDIO_CLOCK, CONFIG, FRAMES, TEXT, TOKENS, VIDEO, VIDEO_CLOCK, inputs, noise, transformer
from torch import Tensor, nn

from ccl.routing import Task
from ccl.training.distill import DistillObjective, Jumps, check_learns, without_average
from ccl.training.objective import Batch
from ccl.training.teacher import Teacher
from ccl.transformer import DualStreamTransformer, StreamInput
from shared.utils.config import Flow, Loss
from shared.utils.config_sections import Distill
from shared.utils.errors import UserError

FLOW = Flow(video_shift=3.0, audio_shift=1.5)
AVERAGED = {name: CONFIG[name] | {"average": True} for name in ("video", "audio")}
FEW = {"steps": 4, "shifts": [3.0, 1.5], "guidance": {"t2av": {}}}
ALL_JUMPS = {"plain_share": 0.0, "anchor": 0.0}


def batch(tasks: list[str], step: int = 3) -> Batch:
    size = len(tasks)
    clean = torch.zeros(size, FRAMES, dtype=torch.bool)
    clean[1::2, :2] = True
    return Batch(
        step=step, ids=[f"clip{i}" for i in range(size)], tasks=tasks,
        video=noise("v", size, *VIDEO), audio=noise("a", size, *AUDIO),
        text=noise("t", size, *TEXT), audio_text=noise("ta", size, *TEXT), clean_frames=clean,
        video_clock=VIDEO_CLOCK, audio_clock=AUDIO_CLOCK, empty_text=noise("none", 1, *TEXT).expand(size, -1, -1),
    )  # fmt: skip


def map_of(x: Tensor, sigma: Tensor, until: Tensor, width: Tensor) -> Tensor:
    """Average velocity of the flow from N(0, width²) to N(0, 1): x moves with the deviation of its noise level."""

    def deviation(level: Tensor) -> Tensor:
        return (((1 - level) * width).square() + level.square()).sqrt()

    same = (sigma - until).abs() < 1e-6
    at = deviation(sigma).square()
    velocity = x * (sigma - (1 - sigma) * width.square()) / at
    jump = x * (1 - deviation(until) / deviation(sigma)) / (sigma - until).where(~same, torch.ones_like(sigma))
    return torch.where(same, velocity, jump)


class Exact(nn.Module):
    """Predicts by the known map of a Gaussian, as wide as `width` says; keeps what it was given."""

    def __init__(self, width: float = 0.5) -> None:
        super().__init__()
        self.width = nn.Parameter(torch.tensor(width))
        self.seen: list[tuple[StreamInput, StreamInput]] = []

    def forward(self, route: Any, video: StreamInput, audio: StreamInput, video_control: Any = None) -> Any:
        self.seen.append((video, audio))
        out = []
        for given, noisy in ((video, route.video_noisy), (audio, route.audio_noisy)):
            levels = [given.sigma, given.sigma if given.until is None else given.until]
            if given.latents.ndim == 5:
                sigma, until = (level[:, None, :, None, None] for level in levels)
            else:
                sigma, until = (level.reshape(len(level), -1, 1) for level in levels)
            out.append(map_of(given.latents, sigma, until, self.width) if noisy else None)
        return tuple(out)


class ExactTeacher(Teacher):
    """Its velocities are those of the known flow."""

    def __init__(self, width: float = 0.5) -> None:
        self.model = Exact(width)

    def models(self) -> list[Any]:
        return [self.model]

    def velocity(self, batch: Batch, task: Task, latents: dict[str, Tensor], sigmas: dict[str, Tensor]) -> Any:
        route, out = task.route, {}
        for name, value in latents.items():
            level = sigmas[name].reshape(-1, *[1] * (value.ndim - 1))
            if route.is_noisy(name):
                out[name] = map_of(value, level, level, self.model.width)
        return out


def objective(model: nn.Module, teacher: Teacher | None = None, decay: float = 0.9, **settings: Any) -> Any:
    return DistillObjective(model, FLOW, Loss(audio=0.5), 7, Distill(**settings), decay, teacher)  # type: ignore[arg-type]


def test_a_new_second_time_changes_nothing_to_the_bit() -> None:
    plain = transformer()
    model = DualStreamTransformer(**(CONFIG | AVERAGED)).eval()
    missing = model.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing and all(".until_embedder." in name for name in missing)
    video, audio = inputs(sigma=0.7)
    expected = plain(Task.T2AV.route, video, audio)
    for until in (None, 0.7, 0.3, 0.0):
        lower = None if until is None else torch.full((2,), until)
        given = (replace(one, until=lower) for one in (video, audio))
        assert all(map(torch.equal, model(Task.T2AV.route, *given), expected))
    with pytest.raises(ValueError, match="without average"):
        plain(Task.T2AV.route, replace(video, until=torch.zeros(2)), audio)


def test_once_trained_it_tells_how_far_a_jump_goes_and_the_kept_context_does_not() -> None:
    model = transformer(**AVERAGED)  # random where it starts at zero
    video, audio = inputs(sigma=0.7)
    at, below = (model(Task.T2AV.route, replace(video, until=u), audio) for u in (None, torch.zeros(2)))
    assert (at[0] - below[0]).abs().max() > 1e-3
    clean = replace(audio, sigma=torch.zeros(2))
    kept = model.context("audio", clean)
    same = model.context("audio", replace(clean, until=torch.zeros(2)))
    assert all(torch.equal(a, b) for one, two in zip(kept.key_values, same.key_values, strict=True)
               for a, b in zip(one, two, strict=True))  # fmt: skip


@pytest.mark.parametrize("task", ["t2av", "a2v", "v2a", "t2v", "t2a"])
def test_the_known_map_is_its_own_target(task: str) -> None:
    """Jumps of two halves give the same jump, in each stream at its own shift."""
    data = batch([task] * 6)
    out = objective(Exact(), ExactTeacher(), **ALL_JUMPS)(data)
    assert {record.stream for record in out.records} == {
        f"{name}-jump" for name in ("video", "audio") if Task(task).route.is_noisy(name)
    }
    assert all(record.loss.max() < 1e-9 for record in out.records)


def test_another_map_is_not_its_own_target_where_the_teacher_is_another() -> None:
    """Velocities pull to the teacher, and jumps that are short enough to go by its steps."""
    data = batch(["t2av"] * 6)
    plain = objective(Exact(0.5), ExactTeacher(0.9), plain_share=1.0)(data)
    assert {record.stream for record in plain.records} == {"video", "audio"}
    assert all(record.loss.mean() > 1e-4 for record in plain.records)
    alone = objective(Exact(0.5), ExactTeacher(0.9), **ALL_JUMPS)(data)
    tied = objective(Exact(0.5), ExactTeacher(0.9), plain_share=0.0, anchor=1.0)(data)
    assert alone.loss < 1e-8 < 1e-4 < tied.loss


def test_jumps_learn_the_map_from_velocities_alone() -> None:
    """A wrong scale of jumps is corrected by the split target: its gradient has the right sign."""

    class Scaled(Exact):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(1.5))

        def forward(self, route: Any, video: StreamInput, audio: StreamInput, video_control: Any = None) -> Any:
            out = super().forward(route, video, audio)
            inside = video.until is not None and bool((video.until < video.sigma).any())
            return tuple(value if value is None or not inside else value * self.scale for value in out)

    model = Scaled()
    part = objective(model, ExactTeacher(), plain_share=0.0, anchor=1.0)
    part(batch(["t2v"] * 4)).loss.backward()
    assert model.scale.grad > 0


def test_what_is_clean_is_not_moved_and_not_in_the_loss() -> None:
    model = Exact()
    data = batch(["t2av"] * 4)
    part = objective(model, None, plain_share=0.0)
    first = part(data)
    average = part.average.transformer
    assert len(average.seen) == 2  # both halves of the jumps
    for video, _ in [*average.seen, *model.seen]:
        assert torch.equal(video.latents[1::2, :, :2], data.video[1::2, :, :2])
        assert not video.sigma[1::2, :2].any() and not video.until[1::2, :2].any()
        assert (video.sigma[0::2] > 0).all() and (video.until <= video.sigma).all()
    tokens = torch.zeros(4, TOKENS, dtype=torch.bool)
    tokens[0, :5] = True
    spans = part(replace(data, clean_tokens=tokens))
    _, audio = model.seen[-1]
    assert torch.equal(audio.latents[0, :5], data.audio[0, :5]) and not audio.until[0, :5].any()
    assert spans.loss.isfinite() and spans.loss != first.loss


def test_given_streams_are_at_noise_level_zero_to_the_end() -> None:
    model, data = Exact(), batch(["a2v"] * 3)
    objective(model, None, plain_share=0.0)(data)
    _, audio = model.seen[-1]
    assert torch.equal(audio.latents, data.audio) and not audio.sigma.any() and not audio.until.any()


def test_the_finer_the_teachers_steps_the_nearer_its_jumps_come_to_its_flow() -> None:
    """Its steps follow one another, each stream by its own levels; what is clean stays."""
    data, far = batch(["t2av"] * 8), []
    settings = {"plain_share": 0.0, "anchor": 1.0, "grids": {1: 1, 2: 1}}
    for teacher_step in (1.0, 0.25, 0.02):
        part = objective(Exact(), ExactTeacher(), teacher_step=teacher_step, **settings)
        out = part(data)
        assert {record.stream for record in out.records} == {"video-jump", "audio-jump"}
        assert not part.average.transformer.seen
        far.append(out.loss.item())
    assert far[0] > 4 * far[1] > 200 * far[2] and far[2] < 1e-3


def test_each_jump_takes_as_many_steps_of_the_teacher_as_its_noise_levels_are_apart() -> None:
    data = batch(["t2av"] * 3)
    part = objective(Exact(), ExactTeacher(), teacher_step=0.1)
    jumps = Jumps(torch.tensor([1.0, 0.25, 0.6]), torch.tensor([0.75, 0.0, 0.6]))
    assert part._teacher_steps(data, Task.T2AV, jumps).tolist() == [
        2,
        5,
        1,
    ]  # sigma 1 to .9, sound to .82; .5 to 0; none
    video = part._teacher_steps(data, Task.T2V, jumps)
    assert video.tolist() == [1, 5, 1]


def test_jumps_are_those_of_samples_of_few_steps() -> None:
    part = objective(Exact(), None, grids={1: 1, 4: 3}, plain_share=0.25)
    many = replace(batch(["t2v"]), ids=[f"clip{i}" for i in range(800)], video=torch.zeros(1))
    start, end = jumps = part._jumps(many)
    assert 0.2 < (~jumps.there).float().mean() < 0.3
    found = set(zip(start[jumps.there].tolist(), end[jumps.there].tolist(), strict=True))
    assert found == {(1.0, 0.0), (1.0, 0.75), (0.75, 0.5), (0.5, 0.25), (0.25, 0.0)}
    assert 0.2 < ((start == 1) & (end == 0))[jumps.there].float().mean() < 0.3
    assert (start[~jumps.there] < 1).all() and len(start[~jumps.there].unique()) > 150
    again = part._jumps(replace(many, ids=many.ids[::-1]))
    assert torch.equal(again.start.flip(0), start)


def test_without_a_teacher_the_velocity_is_that_of_the_data() -> None:
    data = batch(["t2av"] * 4)
    part = objective(Exact(), None, plain_share=1.0)
    out = part(data)
    part.average.transformer.width.data.fill_(9.0)  # takes no part in velocities
    assert torch.equal(part(data).loss, out.loss) and out.loss > 0.1


def test_the_average_follows_once_a_step_and_is_no_part_of_what_is_exported() -> None:
    model = Exact(1.0)
    part = objective(model, None, decay=0.9)
    part(batch(["t2v"] * 2, step=0))
    model.width.data.fill_(2.0)
    for _ in range(2):  # micro-steps
        part(batch(["t2v"] * 2, step=1))
    assert part.average.transformer.width.item() == pytest.approx(2 / 11 * 1 + 9 / 11 * 2)
    assert not any(p.requires_grad for p in part.average.parameters())
    assert set(without_average(part.state_dict())) == {"transformer.width"}
    fresh = objective(Exact(0.0), None, decay=0.9)
    fresh.load_state_dict(part.state_dict())
    fresh(batch(["t2v"] * 2, step=1))
    assert torch.equal(fresh.average.transformer.width, part.average.transformer.width)


def test_a_new_second_time_has_to_learn() -> None:
    model = DualStreamTransformer(**(CONFIG | AVERAGED))
    check_learns(model)
    model.requires_grad_(False)
    with pytest.raises(UserError, match="put transformer into trainable"):
        check_learns(model)
    check_learns(transformer(**AVERAGED).requires_grad_(False))


@pytest.mark.parametrize("wrong", [{"audio": CONFIG["audio"]}, {"video": CONFIG["video"]}])
def test_both_streams_have_a_second_time_or_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="both streams have it or none"):
        DualStreamTransformer(**(CONFIG | AVERAGED | wrong))
    with pytest.raises(ValueError, match="a model that is distilled has it"):
        DualStreamTransformer(**CONFIG, distilled=FEW)
