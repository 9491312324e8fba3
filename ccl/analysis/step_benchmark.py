"""One evaluation of the joint model measured: by task, against the roofline, and beside other models of its size.

`python scripts/benchmark.py step` is its command line.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ccl.analysis import neighbours
from ccl.analysis.benchmark_options import Step
from ccl.analysis.roofline import count_work, roofline
from ccl.analysis.timing import MIB, Spread, in_turns, paired_ratio, peak_bytes
from ccl.flops import on_meta
from ccl.routing import Task
from ccl.transformer import DualStreamTransformer, StreamContext, StreamInput
from shared.nn.attention import use_backend
from shared.nn.clock import LatentClock
from shared.nn.compiling import compile_blocks
from shared.utils.errors import UserError

SIGMA, AUDIO_RATE, GIB = 0.7, 25.0, 2**30
#: The stream that is clean, by task.
CLEAN = {Task.A2V: "audio", Task.V2A: "video"}
KEPT_SHARE = "of t2av, paired"


@dataclass(frozen=True)
class Form:
    """What takes turns: a model, and a pass of it."""

    model: nn.Module
    run: Callable[[], object]


def step_benchmark(options: Step, device: str) -> tuple[dict[str, Any], str]:
    """Measure what `options` ask for: numbers, and the table. UserError for a model that there is not."""
    dtype, config = (torch.float32 if options.dtype == "fp32" else torch.bfloat16), options.config()
    weights = torch.float32 if options.backward else dtype
    tokens = options.grid, options.audio_tokens, options.text_tokens
    size = neighbours.Size(config, *tokens, options.batch, weights)
    model = random_model(config, weights, device)
    inputs = random_inputs(size, device)
    forms = {name: Form(model, task_pass(model, Task(name), inputs, options.backward)) for name in options.tasks}
    for name in options.against:
        other, forward = neighbours.neighbour(name, size, device)
        forms[name] = Form(cast_to(other, weights), in_mode(forward, other, options.backward))
    if options.compile:
        compile_all(*(form.model for form in forms.values()))
    in_dtype = torch.autocast(torch.device(device).type, dtype, enabled=dtype != weights)  # as in training
    with use_backend(options.attention, "--attention", options.backward), in_dtype:
        seconds = in_turns({name: form.run for name, form in forms.items()}, options.repeats, device)
        peaks = {name: peak_bytes(form.run, device) for name, form in forms.items()}
        work = {name: count_work(form.run) for name, form in forms.items()}
    spreads = {name: Spread.of(times) for name, times in seconds.items()}
    base = options.tasks[0]
    bound = roofline(work[base], dtype, device)
    ratios = {name: paired_ratio(seconds[name], seconds["t2av"]) for name in options.tasks[1:] if "t2av" in seconds}
    against = {name: paired_ratio(seconds["t2av"], seconds[name]) for name in options.against}
    results = {
        "parameters": {name: _parameters(form.model) for name, form in forms.items()},
        "flops": {name: counted.flops for name, counted in work.items()}, "peak_bytes": peaks,
        "seconds": {name: spread._asdict() for name, spread in spreads.items()},
        "of_t2av": {name: ratio._asdict() for name, ratio in ratios.items()},
        "against": {name: ratio._asdict() for name, ratio in against.items()},
        "roofline": {base: bound.facts(spreads[base].median)},
    }  # fmt: skip
    what = "forward and backward" if options.backward else "forward"
    lines = [
        f"{what}, batch {options.batch}, {size.tokens.video} + {size.tokens.audio} tokens, {size.tokens.text} of text; "
        f"widths "
        f"{size.video.width} + {size.audio.width}, {size.video.num_layers} layers, {options.dtype}, {device}, "
        f"{torch.get_num_threads()} threads", "",
        "            parameters    GFLOP   peak MiB   ms: median (quartiles)",
    ]  # fmt: skip
    for name, spread in spreads.items():
        ratio = f"  {_interval(ratios[name])} {KEPT_SHARE}" if name in ratios else ""
        ratio = f"  t2av takes {_interval(against[name])} of it" if name in against else ratio
        lines.append(
            f"{name:11s}{_parameters(forms[name].model):11,d}{work[name].flops / 1e9:9.2f}{peaks[name] / MIB:11.1f}   "
            f"{spread.text(1e-3)}{ratio}"
        )
    return results, "\n".join([*lines, "", f"{base}: {bound.text(spreads[base].median)}"])


def random_model(config: Mapping[str, Any], dtype: torch.dtype, device: str) -> DualStreamTransformer:
    """Build a model of this size. UserError for arguments that it does not know, or more weights than memory."""
    try:
        needed, there = 4 * _parameters(on_meta(config)), memory_of(device)
    except (TypeError, ValueError) as error:
        raise UserError(f"--model: {error}; see configs/model/") from None
    if needed > there:
        sizes = f"{needed / GIB:.0f} GiB of weights does not fit {device}, which has {there / GIB:.0f}"
        raise UserError(f"a model of {sizes}; take a smaller one")
    torch.manual_seed(0)
    with torch.device(device):
        model = DualStreamTransformer(**config)
    cast_to(model, dtype)
    return model


def memory_of(device: str) -> int:
    """Bytes of memory that a device has, or the machine."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def cast_to(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Bring a model's weights to `dtype`, as `from_pretrained` does: parts that its class keeps in fp32 stay."""
    nn.Module.to(model, dtype).eval()  # diffusers' own warns of what is done below
    for part in model.modules():
        keep = getattr(part, "_keep_in_fp32_modules", None) or []
        for name, parameter in part.named_parameters() if keep else ():
            if any(kept in name.split(".") for kept in keep):
                parameter.data = parameter.data.float()
    return model


def random_inputs(size: neighbours.Size, device: str) -> dict[str, StreamInput]:
    """Make both streams' parts of a pass, as the sampler gives them: a noise level per video frame."""
    tokens, batch = size.tokens, size.batch
    audio_clock = LatentClock.at_rate(tokens.audio, AUDIO_RATE)
    clocks = {"video": LatentClock.uniform(tokens.frames, audio_clock.duration), "audio": audio_clock}
    shapes = {"video": (size.video.in_channels, *size.latents), "audio": (tokens.audio, size.audio.in_channels)}
    levels = {"video": tokens.frames, "audio": 1}

    def given(name: str, text_dim: int) -> StreamInput:
        latents = torch.randn(batch, *shapes[name], device=device, dtype=size.dtype)
        text = torch.randn(batch, tokens.text, text_dim, device=device, dtype=size.dtype)
        return StreamInput(latents, torch.full((batch, levels[name]), SIGMA, device=device), text, clocks[name])

    return {"video": given("video", size.video.text_dim), "audio": given("audio", size.audio.text_dim)}


def compile_all(*models: nn.Module) -> None:
    """Let the blocks of each model be compiled, of ours and of diffusers' own, once."""
    for part in dict.fromkeys(part for model in models for part in model.modules()):
        if getattr(part, "_repeated_blocks", None):
            compile_blocks(part, "--compile")


def task_pass(
    model: DualStreamTransformer, task: Task, inputs: Mapping[str, StreamInput], backward: bool
) -> Callable[[], object]:
    """Make a pass of `task`. A clean stream has run once before, as in sampling; with `backward` it is in the pass."""
    given: dict[str, StreamInput | StreamContext] = dict(inputs)
    if task in CLEAN and not backward:
        name = CLEAN[task]
        with torch.no_grad():
            given[name] = model.context(name, inputs[name])
    return in_mode(partial(model.forward, task.route, given["video"], given["audio"]), model, backward)


def in_mode(
    forward: Callable[[], tuple[Tensor | None, Tensor | None]], model: nn.Module, backward: bool
) -> Callable[[], object]:
    """Run a forward pass without gradients, or with the backward pass of its outputs' squares."""

    def run() -> None:
        with nullcontext() if backward else torch.no_grad():
            outputs = forward()
            if backward:
                torch.stack([part.float().square().mean() for part in outputs if part is not None]).sum().backward()
                model.zero_grad(set_to_none=True)

    return run


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _interval(ratio: Spread) -> str:
    return f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"
