"""The results of ablations: what remains of each run, as it is kept, and as it is read again.

RESULTS/VARIANT-SEED.json (numbers, values per clip and loss curves), RESULTS/guidance-VARIANT-SEED.json,
RESULTS/pictures/VARIANT.png (where attention looks), and RESULTS/plan.yaml: tables and reports need no more.
"""

import csv
import math
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shared.ablation.jobs import AblationJob, Jobs
from shared.ablation.plan import AblationPlan, dump_plan, load_plan
from shared.ablation.plan_sections import Curves, Metric
from shared.ablation.result_schema import read_result
from shared.ablation.statistics import Measured, clip_interval
from shared.puppets.choices import Choices, mixture
from shared.puppets.script import sample_spec
from shared.puppets.shows import RATES, SECONDS
from shared.utils.errors import UserError
from shared.utils.files import read_json, write_atomically, write_json
from shared.utils.text_files import read_text, split_lines

PLAN = "plan.yaml"
LARGEST_TABLE = 2**31  # bytes of losses.csv


@dataclass
class Results:
    """The results of one plan: by variant and seed, those under other guidance by seed, and pictures by variant."""

    plan: AblationPlan
    runs: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    guidance: dict[int, dict[str, Any]] = field(default_factory=dict)
    pictures: dict[str, Path] = field(default_factory=dict)

    def of(self, variant: str) -> dict[int, dict[str, Any]]:
        """Return the runs of a variant by seed; of an alias those of the variant it stands for."""
        source = self.plan.shown_as(variant)
        return {seed: self.runs[source, seed] for seed in self.plan.seeds_of(variant) if (source, seed) in self.runs}

    def measured(self, variant: str, metric: str) -> dict[int, Measured]:
        """Metric of a variant by seed, where it was found."""
        values = {seed: run["values"].get(metric) for seed, run in self.of(variant).items()}
        return {seed: from_json(value) for seed, value in values.items() if value is not None}

    def bounds(self, metric: str) -> tuple[float, float] | None:
        """Floor and ceiling of a metric, the mean over the reference's seeds; None where evaluate.py gives none, as of
        clips too few to have them."""
        values = [run["values"].get(metric) or {} for run in self.of(self.plan.reference).values()]
        names = "floor", "ceiling"
        pairs = [[value[name] for name in names] for value in values if all(value.get(n) is not None for n in names)]
        if not pairs:
            return None
        floor, ceiling = np.mean(pairs, axis=0)
        return float(floor), float(ceiling)

    def listed(self) -> dict[str, list[str]]:
        """Variants to show, by group: all of the reference's group, of others those that were run."""
        variants = self.plan.variants
        main = variants[self.plan.reference].group
        groups = dict.fromkeys([main, *(variants[name].group for name, _ in self.runs)])
        shown = [name for name, variant in variants.items() if variant.group == main or self.of(name)]
        return {group: [name for name in shown if variants[name].group == group] for group in groups}

    def missing(self) -> list[str]:
        """Return the runs that the plan has and the results lack."""
        trained = [name for name in self.plan.variants if self.plan.shown_as(name) == name]
        return [
            f"{name}-{seed}" for name in trained for seed in self.plan.seeds_of(name) if (name, seed) not in self.runs
        ]


def read_results(folders: Iterable[Path]) -> list[Results]:
    """Results in these folders, by plan; folders of one plan (its seeds done on several machines) are joined. UserError
    for a folder without plan.yaml, plans of one name that differ, a run in two folders, a file that is no result."""
    joined: dict[str, Results] = {}
    for folder in folders:
        if not (folder / PLAN).is_file():
            raise UserError(f"--results {folder}: has no {PLAN}; give the results/ folder of an ablation's output")
        plan = load_plan(folder / PLAN)
        results = joined.setdefault(plan.name, Results(plan))
        if dump_plan(plan) != dump_plan(results.plan):
            raise UserError(f"{folder / PLAN}: another plan {plan.name} than in the folder before; they must agree")
        for file in sorted(folder.glob("*.json")):
            run = read_result(file)
            variant, seed = run["variant"], run["seed"]
            if variant not in plan.variants or seed not in plan.seeds_of(variant):
                raise UserError(f"{file}: variant {variant} with seed {seed} is not in the plan beside it")
            guided = run["kind"] == "guidance"
            if guided and len(run["points"]) != len(plan.guidance.settings if plan.guidance else []):
                raise UserError(f"{file}: holds {len(run['points'])} points, and the plan beside it other settings")
            runs: dict[Any, Any] = results.guidance if guided else results.runs
            if runs.setdefault(seed if guided else (variant, seed), run) is not run:
                raise UserError(f"{file}: another folder holds this run too; give each run once")
        results.pictures |= {file.stem: file for file in sorted(folder.glob("pictures/*.png"))}
    return list(joined.values())


def from_json(value: Mapping[str, Any]) -> Measured:
    """Return a metric as a result's `values` hold it."""
    if value["clips"] is None:
        return Measured(value["value"], None)
    pairs = zip(value["clips"]["value"], value["clips"]["weight"], strict=True)
    return Measured(value["value"], np.array([(v or 0.0, w) for v, w in pairs], dtype=np.float64))


def keep_result(jobs: Jobs, job: AblationJob) -> None:
    """Write what remains of a finished job. Raises UserError where an endpoint was not measured."""
    folder = jobs.output / "results"
    kind, _, name = job.name.rpartition(" ")
    variant, _, seed = name.rpartition("-")
    if kind == "guidance":
        write_json(folder / f"guidance-{name}.json", collect_guidance(jobs.plan, job.folder, variant, int(seed)))
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
    current = {f"{name}-{seed}.json" for name in plan.variants for seed in plan.seeds_of(name)}
    if plan.guidance:
        current |= {f"guidance-{plan.guidance.variant}-{seed}.json" for seed in plan.guidance.seeds}
    for file in folder.glob("*.json"):
        if file.name not in current:
            file.unlink()


def collect(jobs: Jobs, variant: str, seed: int) -> dict[str, Any]:
    """Return the result of a finished run. Raises UserError where an endpoint or a file is not there."""
    plan, folder, train = jobs.plan, jobs.folder(variant, seed), jobs.folder(jobs.plan.source(variant), seed) / "train"
    probes = {name: read_json(jobs.probes(variant, seed) / f"probe_{name}.json") for name in plan.probes(variant)}
    tree = {"metrics": read_json(folder / "metrics.json"), "probe": probes}
    about = read_json(folder / "about.json")
    model: dict[str, Any] = next((p["model"] for p in probes.values() if isinstance(p.get("model"), dict)), {})
    sizes = {key: model.get(key) for key in ("parameters", "cross_modal_parameters", "flops")}
    sizes["parameters"] = sizes["parameters"] or count_parameters(train / "checkpoint")
    evaluation = plan.evaluation(plan.variants[variant].evaluate)
    needed = [one for one in plan.endpoints if one.task in (None, *evaluation["tasks"])]
    return {
        "kind": "run", "plan": plan.name, "variant": variant, "seed": seed,
        "overrides": {**plan.train_overrides, **plan.variants[plan.source(variant)].overrides},
        "evaluate": evaluation, "samples": samples(read_json(train.parent / "settings.json")),
        "commit": about["commit"], "machine": about["machine"], "seconds": about["seconds"], **sizes,
        "values": values(plan, plan.metrics, needed, tree, folder),
        "curve": loss_curves(train / "losses.csv", plan.curves),
    }  # fmt: skip


def samples(settings: Mapping[str, Any]) -> int | None:
    """Clips that a training of these settings of a job sees; None where micro-batches are filled by tokens."""
    train = settings["train"]
    each, times = train["train.micro_batch"], train["train.gradient_accumulation_steps"]
    return None if each is None else train["train.steps"] * each * times * settings["processes"]


def collect_guidance(plan: AblationPlan, folder: Path, variant: str, seed: int) -> dict[str, Any]:
    """Return the result of the evaluations under other guidance in `folder`. Raises UserError as `collect`."""
    assert plan.guidance is not None, "only asked for where the plan has one"
    about, points, metrics = read_json(folder / "about.json"), [], plan.guided_metrics
    for setting in plan.guidance.settings:
        tree = {"metrics": read_json(folder / setting.name / "metrics.json"), "probe": {}}
        points.append(setting.model_dump(mode="json") | {"values": values(plan, metrics, metrics, tree, folder)})
    head = {"kind": "guidance", "plan": plan.name, "variant": variant, "seed": seed}
    return head | {key: about[key] for key in ("commit", "machine", "seconds")} | {"points": points}


def values(
    plan: AblationPlan, metrics: Sequence[Metric], needed: Sequence[Metric], tree: Mapping[str, Any], run: Path
) -> dict[str, Any]:
    """Each metric's "value", "interval", "clips", "floor", "ceiling", or None. UserError for one of the `needed`."""
    by_name: dict[str, Any] = {}
    for metric in metrics:
        measured = measure(metric, at(tree, metric.path), lengths(plan, tree, metric) if metric.seconds else {})
        if measured is None and metric in needed:
            path = metric.path
            while path and not isinstance(at(tree, path), Mapping):
                path = path.rpartition(".")[0]
            there = ", ".join(list(map(str, at(tree, path)))[:20]) or "nothing"
            raise UserError(f"{run}: no numbers at {metric.path}, which {metric.name!r} needs; there is {there}")
        by_name[metric.name] = None if measured is None else _to_json(tree, metric, measured)
    return by_name


def _to_json(tree: Mapping[str, Any], metric: Metric, measured: Measured) -> dict[str, Any]:
    """Return what a result keeps of a metric, with evaluate.py's floor and ceiling over the same clips."""
    task, _, name = metric.path.rpartition(".per_clip.")
    score = at(tree, f"{task}.scores.{name}") if task and metric.seconds is None else None
    bounds = {key: score[key] for key in ("floor", "ceiling") if key in score} if isinstance(score, Mapping) else {}
    if measured.clips is None:  # the file's own interval stands beside the number or within it
        beside = at(tree, f"{metric.path}_interval")
        interval = at(tree, f"{metric.path}.interval") if beside is None else beside
        return {"value": measured.value, "interval": interval, "clips": None} | bounds
    shown = [round(value, 6) if weight else None for value, weight in measured.clips.tolist()]
    clips = {"value": shown, "weight": [round(weight, 6) for weight in measured.clips[:, 1].tolist()]}
    return {"value": measured.value, "interval": clip_interval(measured.clips, metric.name), "clips": clips} | bounds


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


def measure(metric: Metric, node: Any, seconds: Mapping[str, float]) -> Measured | None:
    """Return what stands at a metric's path, in any of the forms that `Metric` names; `seconds`: the clips' lengths by
    id, in order. None where no clip counts, or nothing of these forms stands there."""
    if isinstance(node, Mapping) and isinstance(node.get("per_clip"), Mapping):
        node = node["per_clip"]
    elif isinstance(node, Mapping) and _is_number(node.get("mean", "")):
        node = node["mean"]
    if _is_number(node):
        return None if metric.seconds or node is None else Measured(float(node), None)
    numbers, weights, ids = node, None, list(seconds)
    if isinstance(node, Mapping) and isinstance(node.get("value"), list):
        numbers, weights = node["value"], node.get("weight")
    elif isinstance(node, Mapping):
        ids = sorted(node)
        numbers = [node[key] for key in ids]
    if not isinstance(numbers, list) or not numbers or not all(map(_is_number, numbers)):
        return None
    pairs = zip(numbers, weights or [1] * len(numbers), strict=True)
    rows = np.array([(value, weight) if value is not None else (0.0, 0.0) for value, weight in pairs], dtype=np.float64)
    if metric.seconds:
        long = np.array([seconds.get(key, np.nan) for key in ids[: len(rows)]])
        if len(long) < len(rows):
            return None
        rows[~((metric.seconds[0] <= long) & (long <= metric.seconds[1])), 1] = 0.0
    return Measured.of_clips(rows) if rows[:, 1].sum() > 0 else None


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def lengths(plan: AblationPlan, tree: Mapping[str, Any], metric: Metric) -> dict[str, float]:
    """Seconds of the clips that a metric is measured on, by id: evaluate.py's held-out ones, or those of a probe."""
    kind, _, rest = metric.path.partition(".")
    if kind == "metrics":
        config = tree["metrics"]["config"]
        conflict = float(config.get("conflict", False))
        scripts = [
            sample_spec(config["held_out_seed"], i, config["level"], conflict=conflict) for i in range(config["clips"])
        ]
    else:
        clips = plan.clips[plan.probe[rest.partition(".")[0]].clips]
        seconds, fps = (
            None if text is None else mixture(*ends)(text)
            for text, ends in ((clips.seconds, SECONDS), (clips.fps, RATES))
        )
        choices = Choices(seconds, fps, style=clips.style)
        made = (choices.show(clips.seed, clips.level, (64, 64), clips.conflict, i) for i in range(clips.clips))
        scripts = [show.shots[0] for show in made]
    return {script.id: script.duration for script in scripts}


def count_parameters(checkpoint: Path) -> int | None:
    """Values in the weights of transformer/ and control/, from the files' headers; None where there are none."""
    from safetensors import safe_open

    total = 0
    for file in (file for part in ("transformer", "control") for file in checkpoint.glob(f"{part}/*.safetensors")):
        with safe_open(file, "np") as weights:
            total += sum(int(np.prod(weights.get_slice(name).get_shape())) for name in weights.keys())  # noqa: SIM118
    return total or None


def loss_curves(file: Path, plan: Curves) -> dict[str, dict[str, Any]]:
    """By "TASK STREAM" and "TASK both", the sum of the streams: {"step": [...], "loss": [...]} (the paper's Figure 5).

    The row of each step is the mean over noise levels, by samples; from step `first` on at most `points` rows are kept,
    the last one among them. Raises UserError where the file cannot be read.
    """
    series = {key: smoothed(rows, plan.smoothing) for key, rows in _mean_losses(file, plan.tasks).items()}
    for task in plan.tasks:
        video, audio = series.get(f"{task} video"), series.get(f"{task} audio")
        if video is not None and audio is not None:
            series[f"{task} both"] = {step: video[step] + audio[step] for step in video if step in audio}
    curves = {}
    for name, rows in series.items():
        steps = [step for step in sorted(rows) if step >= plan.first]
        steps = steps[:: -max(1, math.ceil(len(steps) / plan.points))][::-1]
        curves[name] = {"step": steps, "loss": [round(rows[step], 6) for step in steps]}
    return curves


def smoothed(rows: Mapping[int, float], steps: float) -> dict[int, float]:
    """Exponential average from the first row on, with a time constant of so many steps, whatever rows lack."""
    averages, value, last = {}, 0.0, None
    for step, loss in sorted(rows.items()):
        share = 1.0 if last is None else 1 - math.exp(-(step - last) / steps)
        averages[step] = value = value + share * (loss - value)
        last = step
    return averages


def _mean_losses(file: Path, tasks: Sequence[str]) -> dict[str, dict[int, float]]:
    sums: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(lambda: [0.0, 0.0]))
    table = csv.DictReader(
        split_lines(read_text(file, f"{file}: not the losses of a training", LARGEST_TABLE), str(file)), strict=True
    )
    try:
        for row in table:
            if row["task"] in tasks:
                pair, count = sums[f"{row['task']} {row['stream']}"][int(row["step"])], float(row["samples"])
                pair[0] += count * float(row["loss"])
                pair[1] += count
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise UserError(f"{file}, line {table.line_num}: not the losses of a training ({error})") from None
    return {key: {step: loss / count for step, (loss, count) in rows.items()} for key, rows in sums.items()}
