"""The page that `scripts/gpu.py` makes of its results: gpu.md, and losses.svg beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from shared.utils.files import replacing, write_atomically
from shared.utils.markdown import markdown_table

GIB, TERA = 2**30, 1e12
SAMPLING_AIM, TRAINING_AIM = 0.60, 0.55  # of the measured matmul rate
MEMORY_AIM = 45e9  # bytes, of sampling
TITLES = {
    "sampling": "Sampling", "adapters": "Training: context attention, its tokens and LoRA, streams frozen",
    "full": "Training: all weights", "plan": "Memory by forecast", "toy": "The toy world",
}  # fmt: skip
ATTENTION = ("native", "xformers", "flex", "flash")


def write_page(folder: Path, content: Mapping[str, Any]) -> None:
    """Write FOLDER/gpu.md, and losses.svg if the toy world was trained."""
    curves = _results(content, "toy").get("curves")
    if curves:
        draw_losses(curves, folder / "losses.svg")
    write_atomically(folder / "gpu.md", page(content))


def page(content: Mapping[str, Any]) -> str:
    """Markdown of all that is there."""
    machine, parts = content["machine"], content["parts"]
    gpu = f"{machine['gpu']}, {machine['gpu_bytes'] / GIB:.0f} GiB" if "gpu" in machine else "no GPU"
    tiny = " With `--tiny`: models that a CPU runs, whose numbers say nothing." if content["tiny"] else ""
    versions = f"{gpu}; torch {machine['torch']}, commit {machine['commit']}; {content['seconds']:.0f} s in all"
    lines = ["# One GPU", "", f"{versions}. Written by `python scripts/gpu.py`.{tiny}", ""]
    rows = [[name, about["status"], f"{about.get('seconds', 0):.0f}", about.get("reason", "")]
            for name, about in parts.items()]  # fmt: skip
    lines += [markdown_table(["part", "how it ended", "s", "why"], rows)]
    for name, section in SECTIONS.items():
        if results := _results(content, name):
            lines += [f"## {TITLES[name]}", "", *section(results), ""]
    if any(_results(content, name) for name in ATTENTION):
        lines += ["## Attention backends", "", *_attention(content), ""]
    return "\n".join(line.rstrip(" ") for line in lines).rstrip() + "\n"


def _results(content: Mapping[str, Any], part: str) -> dict[str, Any]:
    return dict(content["parts"].get(part, {}).get("results", {}))


def _plan(found: Mapping[str, Any]) -> Iterator[str]:
    what = {
        "sampling_bytes": "sampling, both streams in bf16", "adapters_bytes": "training of the adapters there",
        "full_bytes": "training of all weights of the smaller model",
        "all_adamw_bytes": f"AdamW over all weights of {found.get('all_adamw_of')}, before any activation",
    }  # fmt: skip
    yield markdown_table(["", "GB", "GiB"], [[text, f"{found[key] / 1e9:.1f}", f"{found[key] / GIB:.1f}"]
                                    for key, text in what.items() if key in found])  # fmt: skip
    yield "`python scripts/benchmark.py memory` has the rows of each."


def _sampling(found: Mapping[str, Any]) -> Iterator[str]:
    yield from _about(found)
    yield _speeds(found, {"pass": "a pass", "step": f"a guided step, {found.get('passes_of_a_step')} passes"})
    yield from _memory(found, f"; the aim is below {MEMORY_AIM / 1e9:.0f} GB")
    yield f"Aim: {SAMPLING_AIM:.0%} of the matmul rate. Text encoder and codecs are not there."


def _training(found: Mapping[str, Any]) -> Iterator[str]:
    yield from _about(found)
    yield _speeds(found, {"step": "a step of one clip"})
    yield from _memory(found)
    yield f"Aim: {TRAINING_AIM:.0%} of the matmul rate. Blocks are computed again; MFU does not count that, HFU does."


def _about(found: Mapping[str, Any]) -> Iterator[str]:
    learning = f", {found['learning']:,} of them learn" if found["learning"] != found["parameters"] else ""
    yield f"{found['model']}: {found['parameters']:,} parameters{learning}; "
    yield f"{found['video_tokens']:,} + {found['audio_tokens']:,} tokens. Matrix products of a block: "
    nominal = found["nominal_rate"]
    promised = f"; the data sheet says {nominal / TERA:.0f}" if nominal else ""
    yield f"{found['matmul_rate'] / TERA:.4g} TFLOP/s{promised}."
    yield ""


def _speeds(found: Mapping[str, Any], what: Mapping[str, str]) -> str:
    rows = []
    for how in ("eager", "compiled"):
        for name, text in what.items():
            if speed := found.get(f"{name}_{how}"):
                shares = (speed["mfu_of_matmul"], speed["mfu_of_nominal"], speed["hfu_of_nominal"])
                spread = f"{speed['seconds']:.3f} ({speed['fastest']:.3f} to {speed['slowest']:.3f})"
                rows.append([text, how, spread, f"{speed['rate'] / TERA:.4g}", *map(_percent, shares)])
    head = ["", "blocks", "s", "TFLOP/s", "MFU of the matmul rate", "MFU of the data sheet", "HFU of the data sheet"]
    return markdown_table(head, rows)


def _memory(found: Mapping[str, Any], aim: str = "") -> Iterator[str]:
    if "peak_bytes" in found:
        peak, forecast = found["peak_bytes"], found["forecast_bytes"]
        yield f"Memory at the peak: {peak / 1e9:.2f} GB ({peak / GIB:.2f} GiB), forecast {forecast / 1e9:.2f} GB, "
        yield f"{peak / forecast - 1:+.1%}{aim}."
    if "compile_seconds" in found:
        yield f"Compiling: {found['compile_seconds']:.0f} s for the first run; {found['compiled_frames']} frames, "
        yield f"{found['graph_breaks']} graph breaks."


def _attention(content: Mapping[str, Any]) -> Iterator[str]:
    rows, head = [], ["backend", "blocks", "forward, ms", "both, ms", "peak, MB", "equal to fp32", "the worst part"]
    found = {name: _results(content, name) for name in ATTENTION}
    for name, how in ((name, how) for name in ATTENTION for how in ("eager", "compiled") if how in found[name]):
        one = found[name][how]
        worst = f"{one['worst']}: {one['worst_error']:.1e} (native: {one['native_error_there']:.1e})"
        times = [f"{one[key] * 1e3:.2f}" for key in ("forward_seconds", "both_seconds")]
        rows.append([name, how, *times, f"{one['peak_bytes'] / 1e6:.1f}", "yes" if one["equal"] else "NO", worst])
    about = next(one for one in found.values() if one)
    yield f"{about['model']}, {about['video_tokens']:,} + {about['audio_tokens']:,} tokens; forward, and forward with "
    yield "backward. Errors are relative, against native attention in fp32, of outputs and of every gradient."
    yield ""
    yield markdown_table(head, rows)


def _toy(found: Mapping[str, Any]) -> Iterator[str]:
    if "steps" in found:
        ends = ", ".join(f"{stream} {found[f'{stream}_loss'][0]:.3f} to {found[f'{stream}_loss'][1]:.3f}"
                         for stream in found["curves"])  # fmt: skip
        took = f"{found['train_seconds']:.0f} s, start and encoding included"
        yield f"{found['steps']:,} steps on {found['clips']} clips in {took}. Loss: {ends}."
        yield ""
        yield "![Losses of both streams by step](losses.svg)"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


SECTIONS: dict[str, Callable[[Mapping[str, Any]], Iterator[str]]] = {
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
