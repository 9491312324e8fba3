"""The memory estimate against what is live: weights, gradients, optimizer and activations of a small model."""

from __future__ import annotations

from functools import lru_cache

import live_bytes
import pytest
import torch
from live_bytes import allocated, saved_bytes
from tiny import CONFIG, TEXT, noise

from ccl.analysis.memory_estimate import (
    Activations,
    LatentSizes,
    LiveBytes,
    Parameters,
    Setting,
    activations,
    parameters,
    states,
)
from ccl.routing import Task
from ccl.transformer import DualStreamTransformer, StreamInput
from shared.nn.clock import LatentClock
from shared.training.optimizer import build_optimizer
from shared.utils.config import Optimizer

DEPTH, BATCH = 5, 2
SIZES = LatentSizes(frames=4, height=8, width=12, audio=21, text=TEXT[0])


def config() -> dict:
    return CONFIG | {name: CONFIG[name] | {"num_layers": DEPTH} for name in ("video", "audio")}


@lru_cache
def planned(task: Task = Task.T2AV, precision: str = "fp32", checkpointing: bool = False) -> Activations:
    return activations(config(), SIZES, BATCH, task, precision, checkpointing)


def real(device: str = "cpu", config: dict | None = None, sizes: LatentSizes = SIZES):
    """A model with gradients in place, and a forward pass that returns its loss."""
    torch.manual_seed(0)
    with torch.device(device):
        model = DualStreamTransformer(**(config or globals()["config"]())).train()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    v, a = model.video_stream.config, model.audio_stream.config
    text = (noise(n, BATCH, sizes.text, c.text_dim).to(device) for n, c in (("tv", v), ("ta", a)))
    video = noise("v", BATCH, v.in_channels, sizes.frames, sizes.height, sizes.width).to(device)
    audio = noise("a", BATCH, sizes.audio, a.in_channels).to(device)
    level, levels = torch.full((BATCH,), 0.7, device=device), torch.full((BATCH, sizes.frames), 0.7, device=device)
    seen = StreamInput(video, levels, next(text), LatentClock.causal_video(sizes.frames, 16.0, 4))
    heard = StreamInput(audio, level, next(text), LatentClock.at_rate(sizes.audio, 25.0))

    def run(task: Task = Task.T2AV) -> torch.Tensor:
        return torch.stack([x.float().square().mean() for x in model(task.route, seen, heard) if x is not None]).sum()

    return model, run


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    live_bytes.as_on_a_gpu(monkeypatch)


@pytest.mark.parametrize("task", [Task.T2AV, Task.A2V])
def test_what_autograd_saves_is_what_the_plan_keeps(task):
    model, run = real()
    with saved_bytes(model) as count:
        loss = run(task)
    assert loss.requires_grad
    assert count() == pytest.approx(planned(task).kept, rel=0.02)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_peak_of_the_plan_is_what_the_pass_allocates(checkpointing):
    model, run = real()
    if checkpointing:
        model.enable_gradient_checkpointing()
    found = planned(checkpointing=checkpointing)
    assert allocated(run) == pytest.approx(found.peak, rel=0.1)
    assert found.kept < found.peak


def test_checkpointing_keeps_little_and_bf16_less():
    plain, spared = (planned(checkpointing=c) for c in (False, True))
    assert spared.peak < 0.5 * plain.peak and spared.kept < 0.2 * plain.kept
    assert planned(precision="bf16").peak < 0.9 * plain.peak


def test_weights_gradients_and_optimizer_are_what_is_live_without_zero():
    model, _ = real()
    optimizer = build_optimizer([{"params": list(model.parameters())}], Optimizer(), ema=0.9)
    optimizer.step()
    live = [
        sum(p.nbytes for p in model.parameters()),
        sum(p.grad.nbytes for p in model.parameters()),
        sum(x.nbytes for state in optimizer.state.values() for x in state.values() if x.ndim),
    ]
    rows = states(parameters(config()), Setting(zero=0, gpus=1, precision="fp32"))
    assert [row.gpu for row in rows] == live


def test_parameters_are_counted_by_whether_they_learn():
    model, _ = real()
    whole = Parameters.of(model)
    video = torch.nn.ModuleList([model.video_stream, *(block.video for block in model.blocks)]).requires_grad_(False)
    part = Parameters.of(model)
    assert (whole.frozen, part.all, part.frozen) == (0, whole.all, Parameters.of(video).all)
    assert 0.9 * whole.all < whole.linear < whole.all and whole == parameters(config())


def rows(**changes) -> dict[str, tuple[int, int]]:
    setting = Setting(**({"zero": 0, "gpus": 4, "precision": "fp32", "ema": True, "bucket": 100} | changes))
    return {row.what.split(":")[-1].split()[0]: (row.gpu, row.host) for row in states(Parameters(800, 200, 0), setting)}


def test_each_stage_spreads_what_it_says():
    one, two, three = (rows(zero=stage) for stage in (1, 2, 3))
    assert rows() == {"weights": (4000, 0), "gradients": (3200, 0), "moments": (9600, 0)}
    assert one == {"weights": (4000, 0), "gradients": (3200, 0), "own": (800, 0), "moments": (2400, 0),
                   "buffers": (400, 0)}  # fmt: skip
    assert two == one | {"gradients": (800, 0)}
    assert three == {"weights": (1000, 0), "gradients": (800, 0), "moments": (2400, 0), "buffers": (4400, 0)}
    assert rows(ema=False)["moments"] == (6400, 0)


def test_offload_moves_to_the_host():
    spared = rows(zero=3, offload="optimizer")
    assert (spared["moments"], spared["own"], spared["gradients"]) == ((0, 2400), (0, 800), (0, 800))
    assert spared["weights"] == (1000, 0) and rows(zero=3, offload="all")["weights"] == (0, 1000)
    assert rows(zero=1, offload="optimizer")["gradients"] == (3200, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"zero": 4}, "there are 0, 1, 2 and 3"),
        ({"gpus": 0}, "0 GPUs"),
        ({"offload": "optimizer"}, "needs ZeRO-1"),
        ({"zero": 2, "offload": "all"}, "needs ZeRO-3"),
    ],
)
def test_a_setting_that_there_is_not_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        rows(**changes)


def test_live_bytes_are_counted_until_they_are_freed():
    before = torch.zeros(1000)
    with LiveBytes("cpu") as live:
        kept = before + 1
        assert live.now == 4000 and before.view(10, 100).add_(1).shape == (10, 100)
        del kept
        assert (live.now, live.peak) == (0, 4000)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_peak_on_a_gpu_is_that_of_the_plan(checkpointing):
    """Streams of the width of Wan 2.1's 1.3B, six blocks, in bf16 as training runs them."""
    tower = {"num_attention_heads": 12, "attention_head_dim": 128, "num_layers": 6, "ffn_dim": 8960, "text_dim": 4096}
    large = {"video": tower | {"in_channels": 16}, "audio": tower | {"in_channels": 128, "time_unit": 0.04}}
    large |= {"cca_heads": 3, "cca_head_dim": 128, "context_tokens": 16}
    sizes = LatentSizes(frames=9, height=44, width=80, audio=52, text=512)
    model, run = real("cuda", large, sizes)
    if checkpointing:
        model.enable_gradient_checkpointing()
    counted = parameters(large)
    found = activations(large, sizes, BATCH, precision="bf16", checkpointing=checkpointing)
    most = 0
    for _ in range(2):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        with torch.autocast("cuda", torch.bfloat16):
            loss = run()
        loss.backward()
        most = torch.cuda.max_memory_allocated() - before
    casts = states(counted, Setting(zero=0, gpus=1))[-1].gpu
    state = sum(p.nbytes + p.grad.nbytes for p in model.parameters())
    assert most + state == pytest.approx(found.peak + casts + state, rel=0.1)
