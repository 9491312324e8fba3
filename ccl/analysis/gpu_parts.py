"""What `scripts/gpu.py` measures of models of full size: the plan of their memory, sampling, and training.

Each part is told where to `note` what it finds, by name, as soon as it is known.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._dynamo.utils import counters

from ccl.analysis.gpu_model import (
    Case,
    all_adamw_bytes,
    case,
    random_inputs,
    random_model,
    sampling_bytes,
    training_bytes,
)
from ccl.analysis.timing import in_turns, machine, matmul_rate, peak_bytes, seconds_of
from ccl.flops import task_flops
from ccl.guidance import Guidance
from ccl.routing import Reads, Route, Task
from ccl.sampler import Conditions, JointSampler
from ccl.training.trial import Learns, Trial, choose_learning, nominal_rate
from ccl.transformer import DualStreamTransformer
from shared.nn.compiling import compile_blocks
from shared.utils.errors import UserError

#: Called with names and values that JSON can hold.
Note = Callable[..., None]
#: Notes what it finds, on a GPU or, `tiny`, on a CPU, in about so many seconds: `part(note, tiny, seconds)`.
Part = Callable[[Note, bool, float], None]
GIB = 2**30


class Skipped(UserError):
    """A part, or the rest of it, that this machine cannot do; the message says why."""


def describe(note: Note, tiny: bool, seconds: float) -> None:
    """Note what the machine is. RuntimeError if this process cannot use its GPU."""
    note(**machine(device_of(tiny)))


def device_of(tiny: bool) -> torch.device:
    """Return the device that is measured."""
    return torch.device("cpu" if tiny else "cuda")


def plan(note: Note, tiny: bool, seconds: float) -> None:
    """Forecast the memory of what is measured, and of what is not because it fits nowhere."""
    note(sampling_bytes=sampling_bytes(case("sampling", tiny)))
    for part, learns in LEARNS.items():
        note(**{f"{part}_bytes": training_bytes(case(part, tiny), learns)})
    of = case("sampling", tiny)
    note(all_adamw_bytes=all_adamw_bytes(of.config), all_adamw_of=of.name)


#: Part -> what learns in it.
LEARNS: dict[str, Learns] = {"adapters": "adapters", "full": "all"}


def sampling(compiled: bool) -> Part:
    """Make the part that times a pass of t2av and a guided step of sampling, with `compiled` blocks or plain ones."""

    def measure(note: Note, tiny: bool, seconds: float) -> None:
        of, device = case("sampling", tiny), device_of(tiny)
        forecast = sampling_bytes(of)
        check_room(forecast, device)
        model, rates = random_model(of.config, of.weights, device), _rates(of, of.weights, device)
        note(**_about(of, model), forecast_bytes=forecast, **rates)
        given = random_inputs(model, of, of.weights)
        sampler = _sampler(model, of)
        latents = {"video": given[0].latents.float(), "audio": given[1].latents.float()}
        forms: dict[str, Callable[[], Any]] = {
            "pass": lambda: model(Task.T2AV.route, *given),
            "step": lambda: sampler.velocity(latents, dict.fromkeys(latents, 0.7)),
        }
        with torch.no_grad():
            if compiled:
                note(**run_compiled(model, of, forms["step"], device))
            routes = _routes(model, forms["step"])
            flops = {
                "pass": task_flops(model, of.tokens, Task.T2AV),
                "step": sum(_route_flops(model, of, route) for route in routes),
            }
            held = sum(parameter.nbytes for parameter in model.parameters())
            note(passes_of_a_step=len(routes), peak_bytes=held + peak_bytes(forms["step"], device))
            times = in_turns(forms, of.repeats, device)
            check_values(forms["step"]().values())
        note(**{name: speed(times[name], flops[name], rates) for name in forms})

    return measure


def training(part: str, compiled: bool) -> Part:
    """Make the part in which steps of `LEARNS` are timed, with `compiled` blocks or plain ones."""

    def measure(note: Note, tiny: bool, seconds: float) -> None:
        of, learns, device = case(part, tiny), LEARNS[part], device_of(tiny)
        forecast = training_bytes(of, learns)
        check_room(forecast, device)
        model = random_model(of.config, of.weights, device)
        choose_learning(model, learns)
        trial = Trial(model, random_inputs(model, of, torch.float32), of.products)
        cost, rates = trial.cost(of.tokens), _rates(of, of.products or of.weights, device)
        note(**_about(of, model), forecast_bytes=forecast, **rates)
        losses: list[float] = []

        def step() -> None:
            losses.append(trial.step())

        if compiled:
            note(**run_compiled(model, of, step, device))
        step()  # the optimizer's state is there from here on
        note(peak_bytes=trial.state_bytes + peak_bytes(step, device))
        times = in_turns({"step": step}, of.repeats, device)["step"]
        check_values([torch.tensor(losses)])
        note(step=speed(times, cost.flops, rates, cost.hardware_flops / cost.flops), losses=losses)

    return measure


def speed(
    seconds: list[float], flops: float, rates: dict[str, float | None], hardware: float = 1.0
) -> dict[str, float | None]:
    """Median seconds, operations per second, and which share they are of each of `rates`; `hardware`: how many times
    the model's operations the device does, where blocks are computed again."""
    median = statistics.median(seconds)
    shares = {name: flops / median / rate if rate else None for name, rate in rates.items()}
    nominal = shares["nominal_rate"]
    return {
        "seconds": median, "fastest": min(seconds), "slowest": max(seconds), "flops": flops, "rate": flops / median,
        "mfu_of_matmul": shares["matmul_rate"], "mfu_of_nominal": nominal,
        "hfu_of_nominal": nominal and nominal * hardware,
    }  # fmt: skip


def check_room(forecast: int, device: torch.device) -> None:
    """Raise Skipped if the GPU has less memory than is forecast."""
    if device.type == "cuda" and forecast > (room := torch.cuda.get_device_properties(device).total_memory):
        raise Skipped(f"needs {forecast / GIB:.1f} GiB by the forecast; this GPU has {room / GIB:.1f}")


def check_values(values: Any) -> None:
    """Raise ValueError unless all are finite: what is timed is what a model computes."""
    for value in values:
        if not bool(Tensor.isfinite(value).all()):
            raise ValueError("the model computed NaN or infinity")


def run_compiled(
    model: DualStreamTransformer, of: Case, run: Callable[[], object], device: torch.device
) -> dict[str, float | int]:
    """Compile the blocks; seconds of the first run, and how many frames were compiled and where graphs broke."""
    counters.clear()
    if of.compiler == "inductor":
        compile_blocks(model, "compiled blocks")
    else:  # it would take minutes on a CPU
        model.compile_repeated_blocks(backend=of.compiler)
    seconds = seconds_of(run, device)
    return {
        "compile_seconds": seconds, "compiled_frames": counters["frames"]["ok"],
        "graph_breaks": sum(counters["graph_break"].values()),
    }  # fmt: skip


def _about(of: Case, model: DualStreamTransformer) -> dict[str, Any]:
    tokens = of.tokens
    return {
        "model": of.name, "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "learning": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        "video_tokens": tokens.video, "audio_tokens": tokens.audio,
    }  # fmt: skip


def _rates(of: Case, dtype: torch.dtype, device: torch.device) -> dict[str, float | None]:
    """Operations per second: measured with the products of a block, and what the data sheet promises."""
    return {
        "matmul_rate": matmul_rate(of.products_of_block, dtype, device),
        "nominal_rate": nominal_rate(device),
    }


def _sampler(model: DualStreamTransformer, of: Case) -> JointSampler:
    """Make a sampler of t2av with the default guidance, on random texts."""
    draw = torch.Generator(model.device).manual_seed(2)
    shape = 1, of.sizes.text, of.config["video"]["text_dim"]
    text, negative = (torch.randn(shape, generator=draw, device=model.device).to(of.weights) for _ in range(2))
    conditions = Conditions({"video": text, "audio": text}, negative)
    return JointSampler(model, Task.T2AV.route, conditions, of.clocks, Guidance(), {})


def _routes(model: DualStreamTransformer, run: Callable[[], object]) -> list[Route]:
    """Routes of the passes that `run` makes."""
    routes: list[Route] = []
    hook = model.register_forward_pre_hook(lambda _, args: routes.append(args[0]))
    run()
    hook.remove()
    return routes


def _route_flops(model: DualStreamTransformer, of: Case, route: Route) -> int:
    """Operations of a pass in which the streams read each other, or each its context tokens if it runs at all."""
    if route.has_context:
        return task_flops(model, of.tokens, Task.T2AV)
    alone = {Task.T2V: route.video, Task.T2A: route.audio}
    return sum(task_flops(model, of.tokens, task) for task, reads in alone.items() if reads is not Reads.SKIPPED)
