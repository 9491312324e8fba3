"""Attention backends for `scripts/gpu.py`: forward and backward of a small joint model on each, plain and compiled.

A backend is measured beside native attention and compared with native attention in fp32, parameter by parameter: one
that gets the gradient of a single part wrong shows it there, whatever the loss says.
"""

from __future__ import annotations

import statistics
from dataclasses import replace

import torch
from torch import Tensor

from ccl.analysis.gpu_model import Case, case, random_inputs, random_model
from ccl.analysis.gpu_parts import Note, Part, Skipped, device_of, run_compiled
from ccl.analysis.timing import in_turns, peak_bytes
from ccl.routing import Task
from ccl.transformer import DualStreamTransformer, StreamInput
from shared.nn.attention import use_backend
from shared.utils.errors import UserError

SLACK = 3.0  # how far from fp32 a backend may be, in errors of native attention in the same precision
FLOOR = {torch.bfloat16: 1e-2, torch.float32: 1e-4}  # and what is always allowed

Inputs = tuple[StreamInput, StreamInput]


def attention(name: str, compiled: bool) -> Part:
    """Make the part that measures the backend `name`, with `compiled` blocks or plain ones."""

    def measure(note: Note, tiny: bool, seconds: float) -> None:
        of, device = case("attention", tiny), device_of(tiny)
        rounded, inputs = _model_and_inputs(of, device)
        exact = gradients(rounded.float(), _in_fp32(inputs))
        model, _ = _model_and_inputs(of, device)
        native = distances(gradients(model, inputs), exact)
        note(model=of.name, video_tokens=of.tokens.video, audio_tokens=of.tokens.audio)
        try:
            with use_backend(name, learns=True):
                if compiled:
                    note(**run_compiled(model, of, lambda: gradients(model, inputs), device))
                found = distances(gradients(model, inputs), exact)
                note(**verdict(found, native, FLOOR[of.weights]), **_times(of, device, model, inputs))
        except (UserError, NotImplementedError) as error:  # the package, the device, or a pass that it has not
            raise Skipped(" ".join(str(error).split())) from None

    return measure


def _model_and_inputs(of: Case, device: torch.device) -> tuple[DualStreamTransformer, Inputs]:
    model = random_model(of.config, of.weights, device)
    return model, random_inputs(model, of, of.weights)


def _in_fp32(inputs: Inputs) -> Inputs:
    video, audio = (replace(part, latents=part.latents.float(), text=part.text.to(torch.float32)) for part in inputs)
    return video, audio


def _times(of: Case, device: torch.device, model: DualStreamTransformer, inputs: Inputs) -> dict[str, float]:
    """Seconds of a forward pass, and of a forward and backward pass, and the bytes that the latter allocates."""

    def forward() -> None:
        with torch.no_grad():
            model(Task.T2AV.route, *inputs)

    def both() -> None:
        gradients(model, inputs)

    seconds = in_turns({"forward": forward, "both": both}, of.repeats, device)
    medians = {f"{name}_seconds": statistics.median(values) for name, values in seconds.items()}
    return medians | {"peak_bytes": peak_bytes(both, device)}


def gradients(model: DualStreamTransformer, inputs: Inputs) -> dict[str, Tensor]:
    """Return outputs of a pass of t2av, and the gradient of each parameter for their mean square, all in fp32."""
    model.zero_grad()
    outputs = dict(zip(("video", "audio"), model(Task.T2AV.route, *inputs), strict=True))
    torch.stack([output.float().square().mean() for output in outputs.values()]).sum().backward()
    found = {f"output {name}": output.detach().float() for name, output in outputs.items()}
    found |= {name: p.grad.float() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def distances(found: dict[str, Tensor], exact: dict[str, Tensor]) -> dict[str, float]:
    """‖found − exact‖ / ‖exact‖ of each; of what is nearly nothing, as a share of the largest."""
    least = 1e-4 * max(float(value.norm()) for value in exact.values())
    return {
        name: float((found[name] - value).norm()) / max(float(value.norm()), least) for name, value in exact.items()
    }


def verdict(found: dict[str, float], yardstick: dict[str, float], floor: float) -> dict[str, float | bool | str]:
    """Say whether all are as near to fp32 as native attention is, within `SLACK`, and which is the worst."""
    worst = max(found, key=lambda name: found[name] / (SLACK * yardstick[name] + floor))
    return {
        "equal": bool(found[worst] <= SLACK * yardstick[worst] + floor),
        "output_error": max(found[name] for name in found if name.startswith("output")),
        "gradient_error": max(found[name] for name in found if not name.startswith("output")),
        "worst": worst, "worst_error": found[worst], "native_error_there": yardstick[worst],
    }  # fmt: skip
