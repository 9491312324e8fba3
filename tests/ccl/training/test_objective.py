"""The training objective: grouping by route changes nothing, only valid elements count, clean means clean."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from tiny import AUDIO, AUDIO_CLOCK, CONFIG, FRAMES, TEXT, VIDEO, VIDEO_CLOCK, noise, transformer
from torch import nn

from ccl.flops import Tokens, task_flops
from ccl.routing import Task
from ccl.training.objective import (
    MOVES,
    Batch,
    JointObjective,
    draw_clean_frames,
    draw_keyframes,
    moving_places,
    parted,
)
from ccl.transformer import DualStreamTransformer
from shared.encoders.timed_prompts import TimedPrompts
from shared.nn.clock import LatentClock
from shared.nn.flow import draw_noise, draw_u, shift
from shared.nn.timed_text import text_over_time
from shared.utils.config import Flow, Loss

FLOW, LOSS = Flow(video_shift=3.0, audio_shift=1.5), Loss(video=1.0, audio=0.5)
RATE, SEEN = "video_stream.condition_embedder.rate_embedder.weight", ("t2av", "t2v", "a2v", "v2a")
MIXED = ["v2a", "t2av", "a2v", "t2a", "t2v", "t2av"]


def batch(tasks: list[str]) -> Batch:
    clean = torch.zeros(len(tasks), FRAMES, dtype=torch.bool)
    clean[1::2, :2] = True
    size = len(tasks)
    return Batch(
        step=3,
        ids=[f"clip{i}" for i in range(size)],
        tasks=tasks,
        video=noise("v", size, *VIDEO),
        audio=noise("a", size, *AUDIO),
        text=noise("t", size, *TEXT),
        audio_text=noise("ta", size, *TEXT),
        clean_frames=clean,
        video_clock=VIDEO_CLOCK,
        audio_clock=AUDIO_CLOCK,
    )


def loss_and_gradients(model: nn.Module, batches: list[Batch]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The mean loss over batches of equal size, and its gradients."""
    objective = JointObjective(model, FLOW, LOSS, seed=7)
    model.zero_grad()
    total = sum(objective(one).loss for one in batches) / len(batches)
    total.backward()
    return total.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("tasks", [MIXED, ["t2av"] * 4, ["a2v"] * 3])
def test_a_micro_batch_is_the_mean_of_its_samples_alone(tasks):
    model, whole = transformer(), batch(tasks)
    loss, grads = loss_and_gradients(model, [whole])
    mean, apart = loss_and_gradients(model, [whole.take([i]) for i in range(len(tasks))])
    torch.testing.assert_close(loss, mean, rtol=0, atol=1e-5)
    assert set(grads) == set(apart)
    for name, value in grads.items():
        torch.testing.assert_close(value, apart[name], rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_samples_of_different_texts_over_time_are_their_mean_too():
    """On every task, with a different number of texts each; the last has one."""
    prompts = [TimedPrompts((0.0, 0.09 * k, 0.5), ("a", "b", f"c{k}")) for k in range(1, 6)] + [TimedPrompts.of("a")]

    def embed(texts):
        return torch.stack([noise(text, *TEXT) for text in texts])

    def told(one):
        rows = [int(name[4:]) for name in one.ids]
        texts = (text_over_time([prompts[i] for i in rows], clock, embed) for clock in (VIDEO_CLOCK, AUDIO_CLOCK))
        return replace(one, **dict(zip(("text", "audio_text"), texts, strict=True)))

    model, whole = transformer(), batch(MIXED)
    loss, grads = loss_and_gradients(model, [told(whole)])
    mean, apart = loss_and_gradients(model, [told(whole.take([i])) for i in range(len(MIXED))])
    taken, _ = loss_and_gradients(model, [told(whole).take([i]) for i in range(len(MIXED))])
    torch.testing.assert_close(loss, mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(taken, mean, rtol=0, atol=1e-6)
    for name, value in grads.items():
        torch.testing.assert_close(value, apart[name], rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_mixed_and_uniform_micro_batches_agree():
    """Two mixed micro-batches of two tasks, and the same samples in two uniform ones."""
    model, whole = transformer(), batch(["t2av", "a2v", "a2v", "t2av"])
    mixed, grads = loss_and_gradients(model, [whole.take([0, 1]), whole.take([2, 3])])
    uniform, others = loss_and_gradients(model, [whole.take([0, 3]), whole.take([1, 2])])
    torch.testing.assert_close(mixed, uniform, rtol=0, atol=1e-5)
    for name, value in grads.items():
        torch.testing.assert_close(value, others[name], rtol=1e-4, atol=1e-5)


class Recorder(nn.Module):
    """Predicts zero, so that the loss is the mean square of the target; keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = {}

    def forward(self, route, video, audio, video_control=None):
        self.seen[route] = video, audio
        return (
            torch.zeros_like(video.latents) if route.video_noisy else None,
            torch.zeros_like(audio.latents) if route.audio_noisy else None,
        )


def targets(data: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    e_v, e_a = (draw_noise(7, data.step, data.ids, shape, name) for shape, name in ((VIDEO, "video"), (AUDIO, "audio")))
    return e_v - data.video, e_a - data.audio


def test_the_loss_is_the_mean_over_valid_elements_weighted_and_over_the_batch():
    data = batch(["t2av", "t2av", "t2v", "a2v"])
    video, audio = targets(data)
    noisy = torch.where(data.clean_frames, 0.0, 1.0)[:, None, :, None, None].expand_as(video)
    each = (video.square() * noisy).sum((1, 2, 3, 4)) / noisy.sum((1, 2, 3, 4))
    expected = (each.sum() + 0.5 * audio[:2].square().mean((1, 2)).sum()) / 4
    out = JointObjective(Recorder(), FLOW, LOSS, seed=7)(data)
    torch.testing.assert_close(out.loss, expected)
    video_loss = {record.task: record.loss for record in out.records if record.stream == "video"}
    torch.testing.assert_close(torch.cat([video_loss["t2av"], video_loss["t2v"], video_loss["a2v"]]), each)
    assert {(record.stream, record.task) for record in out.records} == {
        ("video", "t2av"), ("audio", "t2av"), ("video", "t2v"), ("video", "a2v"),
    }  # fmt: skip
    assert not any(record.loss.requires_grad for record in out.records)


def test_what_is_clean_is_given_clean():
    data, model = batch(["a2v", "v2a", "t2av"]), Recorder()
    JointObjective(model, FLOW, LOSS, seed=7)(data)
    video, audio = model.seen[Task.A2V.route]
    assert torch.equal(audio.latents, data.audio[:1]) and not audio.sigma.any() and (video.sigma > 0).all()
    video, audio = model.seen[Task.V2A.route]
    assert torch.equal(video.latents, data.video[1:2]) and not video.sigma.any() and (audio.sigma > 0).all()
    video, audio = model.seen[Task.T2AV.route]
    assert (video.sigma > 0).all() and not torch.allclose(video.latents, data.video[2:])
    data = replace(data, clean_frames=torch.tensor([[True, True, False, False]] * 3))
    JointObjective(model, FLOW, LOSS, seed=7)(data)
    video, _ = model.seen[Task.T2AV.route]
    assert torch.equal(video.latents[:, :, :2], data.video[2:, :, :2])
    assert ((video.sigma > 0) == torch.tensor([False, False, True, True])).all()


@pytest.mark.parametrize("kind", ["shared", "independent"])
def test_the_sigmas_of_a_sample_come_from_one_u_through_each_streams_shift(kind):
    data, model = batch(["t2av"] * 4), Recorder()
    data = replace(data, clean_frames=torch.zeros_like(data.clean_frames))
    JointObjective(model, FLOW.model_copy(update={"sigmas": kind}), LOSS, seed=7)(data)
    video, audio = model.seen[Task.T2AV.route]
    u = draw_u(7, data.step, data.ids)
    torch.testing.assert_close(video.sigma, shift(u, 3.0)[:, None].expand(-1, FRAMES))
    assert torch.allclose(audio.sigma, shift(u, 1.5)) == (kind == "shared")


def test_clean_frames_are_a_prefix_drawn_by_sample_and_never_all():
    ids = [str(i) for i in range(400)]
    mask = draw_clean_frames(0.5, 1, 2, ids, 8)
    assert mask.any(1).float().mean() == pytest.approx(0.5, abs=0.1)
    assert not mask.all(1).any() and (mask.int().diff(dim=1) <= 0).all() and mask[mask.any(1), 0].all()
    assert torch.equal(draw_clean_frames(0.5, 1, 2, ids[7:9], 8), mask[7:9])
    for frames in (1, 2, 3):
        assert not draw_clean_frames(1.0, 1, 2, ids, frames).all(1).any()
    assert not draw_clean_frames(0.0, 1, 2, ids, 8).any()


def test_a_detached_clean_stream_gives_the_same_loss_and_learns_nothing():
    model = transformer()
    losses, grads = [], []
    for detach in (False, True):
        model.zero_grad()
        output = JointObjective(model, Flow(), Loss(), seed=3, detach_clean_stream=detach)(batch(["a2v"] * 3))
        output.loss.backward()
        losses.append(output.loss.detach())
        grads.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None and p.grad.any()})
    torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=1e-6)
    audio = ("audio_stream.", ".audio.")  # of the blocks the stream's part, and what it reads
    assert all(any(part in name for name in grads[0]) for part in audio)
    assert not any(part in name for name in grads[1] for part in audio)
    assert any(".fusion.video.to_k" in name for name in grads[1])


class Hook(nn.Module):
    """A control network of one weight: tilts every token by `weight` times the track's value."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))
        self.sigmas: list[torch.Tensor] = []

    def forward(self, tracks, sigma):
        self.sigmas.append(sigma)
        tilt = torch.linspace(-1, 1, 48)  # a constant would not outlive the next LayerNorm
        return lambda index, x: x + self.weight * tracks.value[:, None, None] * tilt


@dataclass(frozen=True)
class Value:
    value: torch.Tensor

    def take(self, rows):
        return Value(self.value[rows])

    def to(self, device):
        return Value(self.value.to(device))


def test_mtv_is_t2v_driven_by_the_hook_of_each_samples_own_tracks():
    model, tracks = transformer(), Value(torch.tensor([0.0, 1.0, 2.0]))
    whole = replace(batch(["mtv", "mtv", "t2v"]), tracks=tracks)
    plain = JointObjective(model, FLOW, LOSS, seed=7)(replace(whole, tasks=["t2v"] * 3)).records
    hook = Hook(0.5)
    records = JointObjective(model, FLOW, LOSS, seed=7, control=hook)(whole).records
    assert [(record.task, record.stream) for record in records] == [("mtv", "video"), ("t2v", "video")]
    (driven, free), (alone,) = records[0].loss, records[1].loss
    # batches of 1, 2 and 3 samples: a processor may add up in another order
    torch.testing.assert_close(torch.stack([driven, alone]), plain[0].loss[[0, 2]], rtol=1e-5, atol=0)
    assert not torch.isclose(free, plain[0].loss[1], rtol=1e-3)
    (sigma,) = hook.sigmas
    assert sigma.shape == (2, FRAMES) and (sigma[1, :2] == 0).all() and (sigma[0] > 0).all()  # the clean frames of 1


def test_the_hooks_weights_learn_from_mtv_alone():
    model, tracks = transformer(), Value(torch.tensor([1.0, 2.0]))
    for tasks, learns in ((["mtv", "t2v"], True), (["a2v", "t2v"], False)):
        hook = Hook(0.5)
        JointObjective(model, FLOW, LOSS, seed=7, control=hook)(replace(batch(tasks), tracks=tracks)).loss.backward()
        assert (hook.weight.grad is not None) == learns


def test_keyframes_come_at_their_rate_and_never_fill_a_clip():
    ids = [f"clip{i}" for i in range(500)]
    mask = draw_keyframes(0.3, 0, 4, ids, 5)
    assert abs(float(mask.any(1).float().mean()) - 0.3) < 0.07
    assert set(mask.sum(1).tolist()) == {0, 1, 2, 3} and mask.any(0).all()
    assert draw_keyframes(1.0, 0, 4, ids, 2).sum(1).eq(1).all()
    assert not draw_keyframes(1.0, 0, 4, ids, 1).any() and not draw_keyframes(0.0, 0, 4, ids, 5).any()


def test_a_tasks_weight_is_on_both_its_losses_and_not_in_the_records():
    data = batch(["t2av", "a2v", "v2a"])
    plain = JointObjective(Recorder(), FLOW, LOSS, seed=7)(data)
    weighted = JointObjective(Recorder(), FLOW, Loss(video=1.0, audio=0.5, tasks={"a2v": 2.0, "v2a": 0.0}), seed=7)(
        data
    )
    of_task = {(r.task, r.stream): float(r.loss.sum()) for r in plain.records}
    assert of_task == {(r.task, r.stream): float(r.loss.sum()) for r in weighted.records}
    change = of_task["a2v", "video"] - 0.5 * of_task["v2a", "audio"]
    torch.testing.assert_close(weighted.loss - plain.loss, torch.tensor(change / 3))


def test_where_the_video_moves_its_loss_counts_more_and_the_records_are_of_all_alike():
    data, steps = batch(["t2av", "a2v", "v2a"]), VIDEO[1]
    still = replace(data, video=data.video[:, :, :1].repeat(1, 1, steps, 1, 1))
    still.video[:, :, 2:, 0, 0] += 1.0  # one place changes once, for good
    places = moving_places(still.video, 4.0)
    torch.testing.assert_close(places.mean((1, 2, 3, 4)), torch.ones(3))
    ratio = places[:, 0, 2, 0, 0] / places[:, 0, 1, 1, 1]
    torch.testing.assert_close(ratio, torch.full((3,), 1 + 4.0 / (1 + MOVES)))
    assert (places == places[0, 0, 0, 1, 1]).sum() == places.numel() - 3  # one of each sample
    assert moving_places(still.video[:, :, :1], 4.0).eq(1).all()
    plain, moving = (JointObjective(Recorder(), FLOW, Loss(moving=m), seed=7)(still) for m in (0.0, 4.0))
    assert [r.loss.tolist() for r in plain.records] == [r.loss.tolist() for r in moving.records]
    assert all(record.learned is None for record in moving.records) and plain.loss != moving.loss
    nothing = replace(still, video=torch.zeros_like(data.video))
    alike = (JointObjective(Recorder(), FLOW, Loss(moving=m), seed=7)(nothing).loss for m in (0.0, 4.0))
    torch.testing.assert_close(*alike)


def test_the_records_tell_the_cost_of_each_task_once():
    model, data = transformer(), replace(batch(["t2av", "t2a", "t2a", "mtv"]), tracks=Value(torch.ones(4)))
    objective = JointObjective(model, FLOW, LOSS, seed=7, control=Hook(0.5), control_flops=lambda f, s: 100 * f + s)
    cost = {record.task: record.cost for record in objective(data).records if record.cost.tokens}
    tokens = Tokens(FRAMES, 4, AUDIO[0], TEXT[0])
    assert {task: one.tokens for task, one in cost.items()} == {"t2av": 16 + 21, "t2a": 2 * 21, "mtv": 16}
    forward = {task: task_flops(model, tokens, Task(task)) for task in cost}
    assert cost["t2av"].flops == cost["t2av"].hardware_flops == 3 * forward["t2av"]
    assert cost["t2a"].flops == 3 * 2 * forward["t2a"] and cost["mtv"].flops == 3 * (forward["mtv"] + 100 * FRAMES + 4)
    by_rates = transformer(window_from="rates")
    wider = JointObjective(by_rates, FLOW, LOSS, seed=7)(batch(["t2av"])).records[0].cost
    assert wider.flops == 3 * task_flops(by_rates, tokens._replace(per_latent=25 / 4), Task.T2AV) > cost["t2av"].flops
    model.enable_gradient_checkpointing()
    model.audio_stream.requires_grad_(False)
    for block in model.blocks:
        block.audio.requires_grad_(False)
    again = JointObjective(model, FLOW, LOSS, seed=7)(batch(["t2av"])).records[0].cost
    assert again.hardware_flops == again.flops + forward["t2av"] and 2 < again.flops / forward["t2av"] < 3


def test_a_clips_frame_rate_is_learned_and_counts():
    """Untrained the loss is that of the model without, to the bit; each task that runs the video teaches it."""
    plain = transformer()
    told = DualStreamTransformer(**CONFIG | {"video": CONFIG["video"] | {"frame_rate": True}})
    assert told.load_state_dict(plain.state_dict(), strict=False).missing_keys == [RATE]
    faster = {one: replace(batch([one] * 2), video_clock=LatentClock.causal_video(FRAMES, 24.0, 4)) for one in SEEN}
    for task in SEEN:
        (expected, _), (loss, grads) = (loss_and_gradients(model, [faster[task]]) for model in (plain, told))
        assert torch.equal(loss, expected) and grads[RATE].any(), task
    torch.nn.init.normal_(told.get_parameter(RATE), std=0.3)
    for task in ("t2v", "v2a"):  # a clean stream is told it as well
        now, before = (loss_and_gradients(told, [one])[0] for one in (faster[task], batch([task] * 2)))
        assert not torch.allclose(now, before, atol=1e-4), task


def test_micro_batches_of_several_sizes_count_by_their_samples():
    model, whole = transformer(), batch(MIXED)
    loss, grads = loss_and_gradients(model, [whole])
    parts = [replace(whole.take(rows), clips=3.0) for rows in ([0], [1, 2, 3, 4, 5])]
    uneven, others = loss_and_gradients(model, parts)
    torch.testing.assert_close(uneven, loss, rtol=0, atol=1e-5)
    for name, value in grads.items():
        torch.testing.assert_close(value, others[name], rtol=1e-4, atol=1e-5)
    unweighted, _ = loss_and_gradients(model, [replace(part, clips=None) for part in parts])
    assert abs(unweighted - loss) > 1e-3


TOKENS_CLEAN = torch.zeros(4, AUDIO[0], dtype=torch.bool)
TOKENS_CLEAN[0, :9], TOKENS_CLEAN[2, 5:] = True, True


def test_clean_tokens_are_given_clean_and_are_not_in_the_loss():
    data = replace(batch(["t2av", "t2av", "t2a", "a2v"]), clean_tokens=TOKENS_CLEAN)
    model, (_, audio) = Recorder(), targets(data)
    out = JointObjective(model, FLOW, LOSS, seed=7)(data)
    _, heard = model.seen[Task.T2AV.route]
    sigma = shift(draw_u(7, data.step, data.ids), FLOW.audio_shift)
    torch.testing.assert_close(heard.sigma, torch.where(TOKENS_CLEAN[:2], 0.0, sigma[:2, None]))
    assert torch.equal(heard.latents[0, :9], data.audio[0, :9])
    assert not torch.isclose(heard.latents[0, 9:], data.audio[0, 9:]).all()
    losses = {(record.stream, record.task): record for record in out.records}
    expected = torch.stack([audio[0, 9:].square().mean(), audio[1].square().mean()])
    torch.testing.assert_close(losses["audio", "t2av"].loss, expected)
    torch.testing.assert_close(losses["audio", "t2a"].loss, audio[2, :5].square().mean()[None])
    torch.testing.assert_close(losses["audio", "t2av"].sigma, sigma[:2])  # its bucket is that of what is made
    _, whole = model.seen[Task.A2V.route]
    assert not whole.sigma.any() and whole.sigma.shape == (1,)  # clean as a whole, whatever the mask says


def test_without_clean_tokens_a_batch_is_what_it_was_to_the_bit():
    model, plain = transformer(), batch(MIXED)
    none = replace(plain, clean_tokens=torch.zeros(len(MIXED), AUDIO[0], dtype=torch.bool))
    (loss, grads), (other, others) = (loss_and_gradients(model, [one]) for one in (plain, none))
    assert torch.equal(loss, other) and all(torch.equal(value, others[name]) for name, value in grads.items())


def test_samples_with_clean_tokens_are_the_mean_of_their_own_losses():
    model, whole = transformer(), replace(batch(["t2av", "t2av", "t2a", "v2a"]), clean_tokens=TOKENS_CLEAN)
    loss, _ = loss_and_gradients(model, [whole])
    mean, _ = loss_and_gradients(model, [whole.take([i]) for i in range(4)])
    torch.testing.assert_close(loss, mean, rtol=0, atol=1e-5)


def part_batch(tasks: list[str], step: int = 3) -> Batch:
    size = len(tasks)
    tracks = torch.arange(size) % 2
    return replace(batch(tasks), step=step, part=noise("part", size, *AUDIO), part_track=tracks)


def test_task_part_is_t2av_with_the_given_track_as_input():
    model, steps = Recorder(), {parted(7, step): step for step in range(40)}
    model.has_unconditional = True
    data = part_batch(["part", "t2av", "part"], steps[False])
    out = JointObjective(model, FLOW, LOSS, seed=7)(data)
    assert {(r.stream, r.task): len(r.loss) for r in out.records} == {
        ("video", "part"): 2, ("audio", "part"): 2, ("video", "t2av"): 1, ("audio", "t2av"): 1,
    }  # fmt: skip
    _, audio = targets(data)  # of the mix, not of the track
    loss = {(r.stream, r.task): r.loss for r in out.records}
    torch.testing.assert_close(loss["audio", "part"], audio[[0, 2]].square().mean((1, 2)))
    alone = part_batch(["part", "part"], steps[True])
    model.seen.clear()
    JointObjective(model, FLOW, LOSS, seed=7)(alone)
    ((route, (_, heard)),) = model.seen.items()
    assert route == Task.PART.route.unconditional and torch.equal(heard.part.latents, alone.part)
    assert torch.equal(heard.part.track, torch.tensor([0, 1]))
    assert 0.1 < sum(parted(7, step) for step in range(500)) / 500 < 0.3


def test_the_part_embedding_learns_from_task_part_alone():
    for tasks, learns in ((["part", "t2v"], True), (["t2av", "a2v"], False)):
        model = transformer(parts=["speech", "effects"])
        JointObjective(model, FLOW, LOSS, seed=7)(part_batch(tasks)).loss.backward()
        assert all((p.grad is not None) == learns for p in model.part_embedding.parameters())
    assert "part" not in {r.task for r in JointObjective(model, FLOW, LOSS, seed=7)(part_batch(["t2av"])).records}


def test_task_part_costs_what_t2av_costs_and_its_embedding():
    model, tokens = transformer(parts=["speech", "effects"]), Tokens(FRAMES, 4, AUDIO[0], TEXT[0])
    extra = 2 * AUDIO[0] * AUDIO[1] * model.audio_stream.config.width
    assert task_flops(model, tokens, Task.PART) == task_flops(model, tokens, Task.T2AV) + extra
    steps = {parted(7, step): step for step in range(40)}
    record = JointObjective(model, FLOW, LOSS, seed=7)(part_batch(["part"], steps[False])).records[0]
    assert record.cost.flops == 3 * task_flops(model, tokens, Task.PART) and record.cost.tokens == 16 + AUDIO[0]
