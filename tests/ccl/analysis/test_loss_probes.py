"""Held-out loss and context gain on fixed (clip, noise, u)."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tiny import AUDIO, AUDIO_CLOCK, FRAMES, TEXT, VIDEO, VIDEO_CLOCK, counted, noise, transformer

from ccl.analysis.loss_probes import (
    JOINED,
    ConditionedTask,
    Losses,
    context_gain,
    encode,
    held_out_losses,
    loss_report,
    model_size,
    noise_levels,
    others_texts,
    summaries,
    tasks_of,
)
from ccl.routing import JOINT_TASKS, Task
from ccl.training.objective import Batch
from ccl.transformer import StreamInput
from shared.codecs import LinearAudioCodec, LinearVideoCodec
from shared.data.dataset import Sample
from shared.encoders import HashedWords
from shared.nn.flow import draw_noise, draw_u, shift
from shared.utils.config import Flow
from shared.utils.errors import UserError

FLOW = Flow(video_shift=3.0, audio_shift=1.5)
LEVELS = [0.25, 0.6]
ALL = [ConditionedTask(task) for task in JOINT_TASKS] + [ConditionedTask(task, unconditional=True) for task in JOINED]


def batch(*ids: str) -> Batch:
    def each(name: str, *shape: int) -> torch.Tensor:
        return torch.stack([noise(name + i, *shape) for i in ids])

    return Batch(
        step=0, ids=list(ids), tasks=["t2av"] * len(ids), video=each("v", *VIDEO), audio=each("a", *AUDIO),
        text=each("t", *TEXT), audio_text=each("u", *TEXT),
        clean_frames=torch.zeros(len(ids), FRAMES, dtype=torch.bool),
        video_clock=VIDEO_CLOCK, audio_clock=AUDIO_CLOCK,
    )  # fmt: skip


def losses(model, *batches: Batch, states=ALL, seed: int = 5):
    return held_out_losses(model, batches, LEVELS, FLOW, seed, states)


@torch.no_grad()
def by_hand(model, data: Batch, task: Task, step: int, unconditional: bool = False) -> dict[str, list[float]]:
    """|v - (e - x)|² of every noisy stream, written out."""
    u = torch.tensor(LEVELS[step])
    inputs, targets = [], {}
    for stream, clean, amount, text, clock in (
        ("video", data.video, 3.0, data.text, data.video_clock),
        ("audio", data.audio, 1.5, data.audio_text, data.audio_clock),
    ):
        given = not getattr(task.route, f"{stream}_noisy")
        sigma = torch.tensor(0.0) if given else amount * u / (1 + (amount - 1) * u)
        e = draw_noise(5, step, data.ids, tuple(clean.shape[1:]), stream)
        targets[stream] = e - clean
        inputs.append(StreamInput((1 - sigma) * clean + sigma * e, sigma.expand(len(clean)), text, clock))
    out = model(task.route.unconditional if unconditional else task.route, *inputs)
    return {
        stream: (value - targets[stream]).square().flatten(1).mean(1).tolist()
        for stream, value in zip(("video", "audio"), out, strict=True)
        if value is not None
    }


@pytest.mark.parametrize("task", JOINT_TASKS)
def test_the_loss_is_the_one_written_out_by_hand(task):
    model, data = transformer(), batch("a", "b")
    table = losses(model, data)
    for unconditional in (False, True) if task in JOINED else (False,):
        found = table[ConditionedTask(task, unconditional)]
        for step in range(len(LEVELS)):
            expected = by_hand(model, data, task, step, unconditional)
            assert set(found) == set(expected)
            for stream, values in expected.items():
                assert [found[stream].clips[i][step] for i in "ab"] == pytest.approx(values, rel=1e-5)
    for stream, amount in (("video", 3.0), ("audio", 1.5)):
        if stream in table[ConditionedTask(task)]:
            expected = shift(torch.tensor(LEVELS), amount).tolist()
            assert table[ConditionedTask(task)][stream].sigma == pytest.approx(expected)


def test_an_untrained_cca_gains_exactly_nothing_and_a_trained_one_something():
    table = losses(transformer(keep="to_out"), batch("a", "b"))
    for task in JOINED:
        gains = context_gain(table, task)
        assert set(gains) == {s for s in ("video", "audio") if getattr(task.route, f"{s}_noisy")}
        assert all(value == 0 for gain in gains.values() for clip in gain.clips.values() for value in clip)
    table = losses(transformer(), batch("a", "b"))
    for task in JOINED:
        for stream, gain in context_gain(table, task).items():
            own, without = table[ConditionedTask(task)][stream], table[ConditionedTask(task, True)][stream]
            assert gain.clips["b"][1] == without.clips["b"][1] - own.clips["b"][1] != 0


def test_without_the_other_modality_a_joint_task_is_the_task_of_one_stream():
    table = losses(transformer(), batch("a", "b"))
    for stream, single, driven in (("video", Task.T2V, Task.A2V), ("audio", Task.T2A, Task.V2A)):
        one = table[ConditionedTask(single)][stream]
        assert table[ConditionedTask(Task.T2AV, True)][stream] == one == table[ConditionedTask(driven, True)][stream]


def test_states_of_one_route_are_evaluated_once():
    model = transformer()
    with counted(model) as routes:
        losses(model, batch("a"))
    assert len(routes) == len(LEVELS) * len(set(routes)) == len(LEVELS) * 6


def test_twice_is_the_same_to_the_bit_and_company_changes_nothing():
    model = transformer()
    together = losses(model, batch("a", "b"))
    assert losses(model, batch("a", "b")) == together
    apart = losses(model, batch("b"), batch("a"))
    for state, streams in together.items():
        for stream, found in streams.items():
            for clip in "ab":
                assert apart[state][stream].clips[clip] == pytest.approx(found.clips[clip], rel=1e-5)
    other = losses(model, batch("a", "b"), seed=6, states=ALL[:1])
    assert other[ALL[0]]["video"].clips["a"] != together[ALL[0]]["video"].clips["a"]


@pytest.mark.parametrize("flow", [Flow(), Flow(mean=-0.5, std=2.0)])
def test_the_levels_are_equally_probable_in_training(flow):
    levels = noise_levels(8, flow)
    drawn = draw_u(0, 0, [str(i) for i in range(4000)], flow.mean, flow.std).double()
    below = [(drawn < u).double().mean().item() for u in levels]
    assert below == pytest.approx([(k + 0.5) / 8 for k in range(8)], abs=0.025)
    assert noise_levels(1, Flow()) == [0.5]


def test_a_summary_has_means_clips_and_buckets():
    found = Losses((0.1, 0.15, 0.9), {"a": (1.0, 2.0, 6.0), "b": (3.0, 4.0, 2.0)}).summary()
    assert found["mean"] == 3.0 and found["per_clip"] == {"a": 3.0, "b": 3.0} and found["interval"] == [3.0, 3.0]
    assert {name: value["mean"] for name, value in found["buckets"].items()} == {"0.0-0.2": 2.5, "0.8-1.0": 4.0}
    video, audio = Losses((0.5,), {"a": (1.0,), "b": (2.0,)}), Losses((0.3,), {"b": (20.0,), "a": (10.0,)})
    told = summaries({"video": video, "audio": audio})
    assert told["joint"]["per_clip"] == {"a": 11.0, "b": 22.0} and told["joint"]["mean"] == 16.5
    assert set(summaries({"video": video})) == {"video"}


def test_text_is_worth_what_the_loss_is_higher_with_anothers(capsys):
    model, data, single = transformer(), batch("a", "b", "c"), batch("d")
    found = loss_report(["text"], model, None, [data, single], LEVELS, FLOW, 5)
    assert set(found) == {"text"} and "left out: d" in capsys.readouterr().out
    swapped = replace(data, text=data.text[[1, 2, 0]], audio_text=data.audio_text[[1, 2, 0]])
    state = ConditionedTask(Task.T2A)
    own, other = (losses(model, one, states=[state])[state]["audio"].per_clip() for one in (data, swapped))
    assert found["text"]["t2a"]["audio"]["per_clip"] == pytest.approx({clip: other[clip] - own[clip] for clip in "abc"})
    assert found["text"]["t2a"]["audio"]["mean"] != 0
    assert len(found["text"]["t2v"]["video"]["levels"]) == len(LEVELS)
    with pytest.raises(UserError, match="none has another's text"):
        others_texts([single])


def test_clips_are_encoded_by_shape_and_each_stream_reads_its_own_caption():
    codecs, encoder = (LinearVideoCodec(latent_channels=4), LinearAudioCodec(latent_channels=5)), HashedWords(dim=12)
    clips = [
        Sample(name, noise(name, 3, frames, 16, 16), noise(f"{name}s", 1, 1000 * frames), f"seen {name}",
               f"heard {name}", True, True)
        for name, frames in (("a", 13), ("b", 29), ("c", 13), ("d", 13))
    ]  # fmt: skip
    parts = {"video_codec": codecs[0], "audio_codec": codecs[1], "text_encoder": encoder}
    pipeline = SimpleNamespace(**parts, config=SimpleNamespace(fps=16.0), device=torch.device("cpu"))
    made = encode(clips, pipeline, 2)
    assert [one.ids for one in made] == [["a", "c"], ["d"], ["b"]]
    first = made[0]
    assert torch.equal(first.video[1], codecs[0].encode(clips[2].video[None])[0].half().float())
    assert torch.equal(first.audio[1], codecs[1].encode(clips[2].audio[None])[0].half().float())
    assert torch.equal(first.text, encoder.encode(["seen a", "seen c"]))
    assert torch.equal(first.audio_text, encoder.encode(["heard a", "heard c"]))
    assert not first.clean_frames.any() and first.clean_frames.shape == (2, len(first.video_clock))
    assert (first.video_clock, first.audio_clock) == (codecs[0].clock(13, 16.0), codecs[1].clock(13000))


def test_the_size_of_a_model():
    model, data = transformer(), batch("a", "b")
    found = model_size(model, data)
    cross = [weight for block in model.blocks for weight in block.fusion.parameters()]
    assert found["cross_modal_parameters"] == sum(p.numel() for p in cross)
    assert found["parameters"] == sum(p.numel() for p in model.parameters())
    assert found == model_size(model, data.take([1])) and 0 < found["cross_modal_flops"] < found["flops"]
    longer = replace(data, audio=data.audio.repeat(1, 2, 1))
    assert model_size(model, longer)["flops"] > found["flops"]


def test_a_model_without_dcr_has_the_joint_tasks_alone():
    model = transformer(routing="joint")
    assert tasks_of(model) == JOINED and tasks_of(transformer()) == JOINT_TASKS
    table = losses(model, batch("a"), states=[ConditionedTask(task) for task in tasks_of(model)])
    assert {state.task: set(streams) for state, streams in table.items()} == {
        Task.T2AV: {"video", "audio"}, Task.A2V: {"video"}, Task.V2A: {"audio"},
    }  # fmt: skip
