"""The page that `scripts/gpu.py` makes of its results: gpu.md, and losses.svg beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.utils.files import replacing, write_atomically
from shared.utils.markdown import markdown_table

GIB, TERA = 2**30, 1e12
SAMPLING_AIM, TRAINING_AIM = 0.60, 0.55  # of the measured matmul rate
MEMORY_AIM = 45e9  # bytes, of sampling
TITLES = {
    "plan": "Memory by forecast", "sampling": "Sampling", "full": "Training: all weights",
    "adapters": "Training: context attention, its tokens and LoRA, streams frozen", "toy": "The toy world",
}  # fmt: skip
ATTENTION = ("native", "xformers", "flex", "flash")
BLOCKS = {"": "as they are", "-compiled": "compiled"}


def write_page(folder: Path, content: Mapping[str, Any]) -> None:
    """Write FOLDER/gpu.md, and losses.svg if the toy world was trained."""
    curves = _results(content, "toy").get("curves")
    if curves:
        draw_losses(curves, folder / "losses.svg")
    write_atomically(folder / "gpu.md", page(content))


def page(content: Mapping[str, Any]) -> str:
    """Markdown of all that is there."""
    machine = content["machine"]
    gpu = f"{machine['gpu']}, {machine['gpu_bytes'] / GIB:.0f} GiB" if "gpu" in machine else "no GPU"
    what = f"{gpu}; torch {machine['torch']}, commit {machine['commit']}; {content['seconds']:.0f} s in all."
    tiny = " With --tiny: models that a CPU runs, whose numbers say nothing." if content["tiny"] else ""
    lines = ["# One GPU", f"{what} Written by `python scripts/gpu.py`.{tiny}", _ends(content["parts"])]
    for name, title in TITLES.items():
        forms = {how: found for end, how in BLOCKS.items() if (found := _results(content, name + end))}
        if forms:
            lines += [f"## {title}", *SECTIONS[name](forms)]
    if backends := [(name, how, found) for name in ATTENTION for end, how in BLOCKS.items()
                    if "equal" in (found := _results(content, name + end))]:  # fmt: skip
        lines += ["## Attention backends", *_attention(backends)]
    return "\n\n".join(line.strip() for line in lines) + "\n"


def _ends(parts: Mapping[str, Any]) -> str:
    rows = [[name, about["status"], f"{about.get('seconds', 0):.0f}", about.get("reason", "")]
            for name, about in parts.items()]  # fmt: skip
    return markdown_table(["part", "how it ended", "s", "why"], rows)


def _results(content: Mapping[str, Any], part: str) -> dict[str, Any]:
    return dict(content["parts"].get(part, {}).get("results", {}))


#: What a part found, by how the blocks ran.
Forms = Mapping[str, Mapping[str, Any]]


def _plan(forms: Forms) -> Iterator[str]:
    found = next(iter(forms.values()))
    what = {
        "sampling_bytes": "sampling, both streams in bf16", "adapters_bytes": "training of the adapters there",
        "full_bytes": "training of all weights of the smaller model",
        "all_adamw_bytes": f"AdamW over all weights of {found.get('all_adamw_of')}, before any activation",
    }  # fmt: skip
    rows = [[text, _gb(found[key]), f"{found[key] / GIB:.1f}"] for key, text in what.items() if key in found]
    yield markdown_table(["", "GB", "GiB"], rows)
    yield "`python scripts/benchmark.py memory` has the rows of such a forecast."


def _sampling(forms: Forms) -> Iterator[str]:
    passes = next((found["passes_of_a_step"] for found in forms.values() if "passes_of_a_step" in found), "some")
    yield from _model(forms, {"pass": "a pass", "step": f"a guided step, {passes} passes"})
    aims = f"{SAMPLING_AIM:.0%} of the matmul rate, below {MEMORY_AIM / 1e9:.0f} GB"
    yield f"Aims: {aims}. Text encoder and codecs are not there."


def _training(forms: Forms) -> Iterator[str]:
    yield from _model(forms, {"step": "a step of one clip"})
    yield f"Aim: {TRAINING_AIM:.0%} of the matmul rate. Blocks are computed again: MFU does not count that, HFU does."


def _model(forms: Forms, what: Mapping[str, str]) -> Iterator[str]:
    """Tell of a model, how fast it is, and what it takes."""
    about = next(iter(forms.values()))
    learning = f", {about['learning']:,} of them learn" if about["learning"] != about["parameters"] else ""
    nominal = f"; the data sheet says {about['nominal_rate'] / TERA:.0f}" if about["nominal_rate"] else ""
    rate = f"Matrix products of a block: {about['matmul_rate'] / TERA:.4g} TFLOP/s{nominal}."
    yield f"{about['model']}: {about['parameters']:,} parameters{learning}; {_tokens(about)}. {rate}"
    head = ["", "blocks", "s", "TFLOP/s", "MFU of the matmul rate", "MFU of the data sheet", "HFU of the data sheet"]
    rows = [[text, how, *_speed(found[name])] for how, found in forms.items() for name, text in what.items()
            if name in found]  # fmt: skip
    yield markdown_table(head, rows)
    head = ["blocks", "GB at the peak", "forecast", "", "s to compile", "compiled frames", "graph breaks"]
    compiling = ("compile_seconds", "compiled_frames", "graph_breaks")
    rows = [[how, *_memory(found), *(f"{found.get(key, 0):.0f}" for key in compiling)]
            for how, found in forms.items() if "peak_bytes" in found]  # fmt: skip
    yield markdown_table(head, rows)


def _memory(found: Mapping[str, Any]) -> list[str]:
    peak, forecast = found["peak_bytes"], found["forecast_bytes"]
    return [_gb(peak), _gb(forecast), f"{peak / forecast - 1:+.1%}"]


def _speed(speed: Mapping[str, Any]) -> list[str]:
    shares = (speed["mfu_of_matmul"], speed["mfu_of_nominal"], speed["hfu_of_nominal"])
    spread = f"{speed['seconds']:.3f} ({speed['fastest']:.3f} to {speed['slowest']:.3f})"
    return [spread, f"{speed['rate'] / TERA:.4g}", *map(_percent, shares)]


def _attention(backends: Sequence[tuple[str, str, Mapping[str, Any]]]) -> Iterator[str]:
    about = backends[0][2]
    errors = "Errors are relative, against native attention in fp32, of outputs and of every gradient."
    yield f"{about['model']}, {_tokens(about)}; a forward pass, and forward with backward. {errors}"
    rows = []
    for name, how, one in backends:
        worst = f"{one['worst']}: {one['worst_error']:.1e} (native: {one['native_error_there']:.1e})"
        times = [f"{one[key] * 1e3:.2f}" for key in ("forward_seconds", "both_seconds")]
        equal = "yes" if one["equal"] else "NO"
        rows.append([name, how, *times, f"{one['peak_bytes'] / 1e6:.1f}", equal, worst])
    yield markdown_table(["backend", "blocks", "forward, ms", "both, ms", "peak, MB", "equal", "the worst"], rows)


def _toy(forms: Forms) -> Iterator[str]:
    found = next(iter(forms.values()))
    if "steps" in found:
        losses = (f"{stream} {found[f'{stream}_loss'][0]:.3f} to {found[f'{stream}_loss'][1]:.3f}"
                  for stream in found["curves"])  # fmt: skip
        took = f"{found['train_seconds']:.0f} s, start and encoding included"
        yield f"{found['steps']:,} steps on {found['clips']} clips in {took}. Loss: {', '.join(losses)}."
        yield "![Losses of both streams by step](losses.svg)"


def _tokens(about: Mapping[str, Any]) -> str:
    return f"{about['video_tokens']:,} + {about['audio_tokens']:,} tokens"


def _gb(size: float) -> str:
    return f"{size / 1e9:.2f}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


SECTIONS: dict[str, Callable[[Forms], Iterator[str]]] = {
    "plan": _plan, "sampling": _sampling, "adapters": _training, "full": _training, "toy": _toy,
}  # fmt: skip


def draw_losses(curves: Mapping[str, list[list[float]]], file: Path) -> None:
    """Draw each stream's loss by step into an SVG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3), layout="constrained")
    for stream, points in curves.items():
        axes.plot(*zip(*points, strict=True), label=stream)
    axes.set(xlabel="step", ylabel="loss")
    axes.legend(frameon=False)
    with replacing(file) as part:
        figure.savefig(part, format="svg", metadata={"Date": None})
    pyplot.close(figure)
