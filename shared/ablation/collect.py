"""What remains of a run: one JSON file with its numbers, values per clip and loss curve. These files are committed
(see `results`)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from shared.ablation.curves import loss_curves
from shared.ablation.jobs import AblationJob, Jobs
from shared.ablation.plan import AblationPlan, dump_plan
from shared.ablation.results import PLAN
from shared.ablation.sections import Metric
from shared.ablation.statistics import Measured, clip_interval
from shared.utils.errors import UserError
from shared.utils.files import read_json, write_atomically, write_json

#: Seconds of the clips in order of a file's lists, and by id.
Lengths = tuple[Sequence[float], Mapping[str, float]]


def keep_result(jobs: Jobs, job: AblationJob) -> None:
    """Write what remains of a finished job. Raises UserError where an endpoint was not measured."""
    plan, folder = jobs.plan, jobs.output / "results"
    kind, _, name = job.name.rpartition(" ")
    variant, _, seed = name.rpartition("-")
    if kind == "guidance":
        write_json(folder / f"guidance-{name}.json", collect_guidance(plan, job.folder, variant, int(seed)))
    elif not kind and variant:
        write_json(folder / f"{name}.json", collect(jobs, variant, int(seed)))
        for picture in sorted((job.folder / "pictures").glob("*.png"))[:1]:
            (folder / "pictures").mkdir(exist_ok=True)
            shutil.copyfile(picture, folder / "pictures" / f"{variant}.png")


def keep_plan(plan: AblationPlan, output: Path) -> None:
    """Write OUTPUT/results/plan.yaml, whose results stand beside it; those that it no longer has are taken away."""
    folder = output / "results"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / PLAN, dump_plan(plan))
    current = {f"{name}-{seed}.json" for name in plan.variants for seed in plan.seeds}
    if plan.guidance:
        current |= {f"guidance-{plan.guidance.variant}-{seed}.json" for seed in plan.guidance.seeds}
    for file in folder.glob("*.json"):
        if file.name not in current:
            file.unlink()


def collect(jobs: Jobs, variant: str, seed: int) -> dict[str, Any]:
    """Return the result of a finished run.

    Raises UserError where an endpoint is not in what evaluate.py and probe.py wrote, or a file cannot be read.
    """
    plan, folder, train = jobs.plan, jobs.folder(variant, seed), jobs.folder(jobs.plan.source(variant), seed) / "train"
    probes = {name: read_json(jobs.probes(variant, seed) / f"probe_{name}.json") for name in plan.probe}
    tree = {"metrics": read_json(folder / "metrics.json"), "probe": probes}
    about = read_json(folder / "about.json")
    model: dict[str, Any] = next((p["model"] for p in probes.values() if isinstance(p.get("model"), dict)), {})
    sizes = {key: model.get(key) for key in ("parameters", "cross_modal_parameters", "flops")}
    sizes["parameters"] = sizes["parameters"] or count_parameters(train / "checkpoint")
    return {
        "kind": "run", "plan": plan.name, "variant": variant, "seed": seed,
        "overrides": {**plan.train_overrides, **plan.variants[plan.source(variant)].overrides},
        "evaluate": plan.evaluation(plan.variants[variant].evaluate).model_dump(mode="json", exclude_none=True),
        "commit": about["commit"], "machine": about["machine"], "seconds": about["seconds"], **sizes,
        "values": values(plan.metrics, tree, partial(lengths, plan, tree), plan.endpoints, folder),
        "curve": loss_curves(train / "losses.csv", plan.curves),
    }  # fmt: skip


def collect_guidance(plan: AblationPlan, folder: Path, variant: str, seed: int) -> dict[str, Any]:
    """Return the result of the evaluations under other guidance in `folder`. Raises UserError as `collect`."""
    assert plan.guidance is not None, "only asked for where the plan has one"
    about, points, metrics = read_json(folder / "about.json"), [], plan.guided_metrics
    for setting in plan.guidance.settings:
        tree = {"metrics": read_json(folder / setting.name / "metrics.json"), "probe": {}}
        measured = values(metrics, tree, partial(lengths, plan, tree), metrics, folder)
        points.append(setting.model_dump(mode="json") | {"values": measured})
    head = {"kind": "guidance", "plan": plan.name, "variant": variant, "seed": seed}
    return head | {key: about[key] for key in ("commit", "machine", "seconds")} | {"points": points}


def values(
    metrics: Sequence[Metric],
    tree: Mapping[str, Any],
    lengths_of: Callable[[Metric], Lengths],
    needed: Sequence[Metric],
    run: Path,
) -> dict[str, Any]:
    """Each metric's {"value", "interval", "clips"} and, where there are such, "floor" and "ceiling"; None where it is
    not there."""
    by_name: dict[str, Any] = {}
    for metric in metrics:
        node = at(tree, metric.path)
        measured = None if node is None else measure(metric, node, lengths_of)
        if measured is None and metric in needed:
            there = ", ".join(_near(tree, metric.path)) or "nothing"
            raise UserError(f"{run}: no numbers at {metric.path}, which {metric.name!r} needs; there is {there}")
        if measured is None:
            by_name[metric.name] = None
        else:
            by_name[metric.name] = _to_json(metric, measured, _interval(tree, metric)) | _bounds(tree, metric)
    return by_name


def _interval(tree: Mapping[str, Any], metric: Metric) -> Any:
    """Interval that the file itself gives of a number: beside it, or within it."""
    beside = at(tree, f"{metric.path}_interval")
    return at(tree, f"{metric.path}.interval") if beside is None else beside


def _bounds(tree: Mapping[str, Any], metric: Metric) -> dict[str, float]:
    """Return what evaluate.py measured of the truth through the codecs and of pairs that do not belong together, over
    the same clips."""
    task, _, name = metric.path.rpartition(".per_clip.")
    score = at(tree, f"{task}.scores.{name}") if task and metric.seconds is None else None
    keys = ("floor", "ceiling")
    return {key: score[key] for key in keys} if isinstance(score, Mapping) and all(k in score for k in keys) else {}


def at(tree: Any, path: str) -> Any:
    """Return what stands at a dotted path; keys may hold dots themselves ("0.2-0.4"). None where there is nothing."""
    if not path:
        return tree
    if not isinstance(tree, Mapping):
        return None
    for key in sorted(tree, key=len, reverse=True):
        if path == key or path.startswith(f"{key}."):
            node = at(tree[key], path[len(key) + 1 :])
            if node is not None:
                return node
    return None


def _near(tree: Any, path: str) -> list[str]:
    """Return the keys where the path breaks off."""
    while path and not isinstance(at(tree, path), Mapping):
        path = path.rpartition(".")[0]
    return [str(key) for key in (at(tree, path) if path else tree)][:20]


def measure(metric: Metric, node: Any, lengths_of: Callable[[Metric], Lengths]) -> Measured | None:
    """Return what stands at a metric's path, in any of the forms that `Metric` names.

    None where no clip counts, or nothing of these forms stands there.
    """
    if isinstance(node, Mapping) and isinstance(node.get("per_clip"), Mapping):
        node = node["per_clip"]
    elif isinstance(node, Mapping) and _is_number(node.get("mean", "")):
        node = node["mean"]
    if isinstance(node, int | float) and not isinstance(node, bool):
        return None if metric.seconds else Measured(float(node), None)
    if isinstance(node, Mapping) and isinstance(node.get("value"), list):
        pairs = list(zip(node["value"], node.get("weight") or [1] * len(node["value"]), strict=True))
    elif isinstance(node, list):
        pairs = [(value, 1) for value in node]
    elif isinstance(node, Mapping) and node and all(_is_number(value) for value in node.values()):
        pairs = [(node[key], 1) for key in sorted(node)]
    else:
        return None
    if not all(_is_number(value) for value, _ in pairs):
        return None
    rows = np.array([(value, weight) if value is not None else (0.0, 0.0) for value, weight in pairs], dtype=np.float64)
    if metric.seconds is not None:
        in_order, by_id = lengths_of(metric)
        keys = sorted(node) if isinstance(node, Mapping) and "value" not in node else None
        long = np.array([by_id.get(k, np.nan) for k in keys] if keys else in_order[: len(rows)])
        if len(long) < len(rows):
            return None
        rows[~((metric.seconds[0] <= long) & (long <= metric.seconds[1])), 1] = 0.0
    return Measured.of_clips(rows) if rows.size and rows[:, 1].sum() > 0 else None


def lengths(plan: AblationPlan, tree: Mapping[str, Any], metric: Metric) -> Lengths:
    """Seconds of the clips that a metric is measured on: evaluate.py's held-out clips, or those of a probe's set."""
    from shared.puppets.script import sample_spec

    kind, _, rest = metric.path.partition(".")
    if kind == "metrics":
        config = tree["metrics"]["config"]
        scripts = [sample_spec(config["held_out_seed"], i, config["level"]) for i in range(config["clips"])]
    else:
        clips = plan.clips[plan.probe[rest.partition(".")[0]].clips]
        scripts = [sample_spec(clips.seed, i, clips.level, conflict=clips.conflict) for i in range(clips.clips)]
    return [script.duration for script in scripts], {script.id: script.duration for script in scripts}


def count_parameters(checkpoint: Path) -> int | None:
    """Values in the weights of transformer/ and control/, from the files' headers; None where there are none."""
    from safetensors import safe_open

    total = 0
    for file in sorted(checkpoint.glob("*/*.safetensors")):
        if file.parent.name in ("transformer", "control"):
            with safe_open(file, "np") as weights:
                total += sum(int(np.prod(weights.get_slice(name).get_shape())) for name in weights.keys())  # noqa: SIM118
    return total or None


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _to_json(metric: Metric, measured: Measured, interval: Any) -> dict[str, Any]:
    clips = None
    if measured.clips is not None:
        interval = clip_interval(measured.clips, metric.name)
        shown = [None if not weight else round(value, 6) for value, weight in measured.clips.tolist()]
        clips = {"value": shown, "weight": [round(weight, 6) for weight in measured.clips[:, 1].tolist()]}
    return {"value": measured.value, "interval": interval, "clips": clips}
