"""Tables of a folder that is distilled for few steps, beside those of its teacher (docs/checkpoint.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.evaluation.checkpoint_tables import command
from shared.evaluation.measures import LEAST_CLIPS
from shared.evaluation.within import Condition, Sentence, judge
from shared.utils.errors import UserError
from shared.utils.files import read_json
from shared.utils.markdown import markdown_table

SCORES = (
    "validity",
    "events",
    "agreement",
    "mouth_agreement",
    "count",
    "once",
    "kind",
    "colour",
    "looks",
    "speaker",
    "light",
)
CLOSE, NEAR = 0.03, 0.05
"""How near scores of t2av, and of every other task, should be to the teacher's."""
CURVE = ("validity", "events", "agreement", "mouth_agreement", "count", "kind", "looks", "blockiness_objects",
         "energy_objects")  # fmt: skip


def few_steps(folder: Path, teacher: Path) -> str:
    """Tell of every task how near it is to the teacher's many steps, and scores by the number of evaluations."""
    parts = []
    for own, old in _pairs(folder, teacher):
        tasks = [task for task in own["tasks"] if task in old["tasks"]]
        verdicts = [_compared(own, old, task) for task in tasks]
        parts += [f"`{command(own)}`, against `{command(old)}`:\n", _differences(tasks, verdicts)]
        parts += [f"- {task}: {_said(verdict, task)}" for task, verdict in zip(tasks, verdicts, strict=True)] + [""]
    return "\n".join([*parts, _curve(folder)])


def _pairs(folder: Path, teacher: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Read evaluations of the folder, each with the teacher's of the same clips. UserError where there is none."""
    found, others = [], [read_json(file) for file in sorted(teacher.glob("metrics*.json"))]
    for file in sorted(folder.glob("metrics*.json")):
        own = read_json(file)
        same = [one for one in others if _clips(one) == _clips(own) and own["tasks"].keys() & one["tasks"].keys()]
        if not same:
            told = ", ".join(f"{name} {value}" for name, value in _clips(own).items())
            raise UserError(f"{file}: {teacher} has no evaluation of these clips ({told}); evaluate it on them, too")
        found.append((own, max(same, key=lambda one: len(own["tasks"].keys() & one["tasks"].keys()))))
    if not found:
        raise UserError(f"{folder}: no metrics*.json")
    return found


def _clips(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Tell which held-out clips were measured, with which noise."""
    return {name: metrics["config"].get(name) for name in ("level", "clips", "seconds", "fps", "held_out", "seed")}


def _compared(own: Mapping[str, Any], old: Mapping[str, Any], task: str) -> Any:
    d = CLOSE if task == "t2av" else NEAR
    sentence = Sentence(task, d, SCORES, own["config"]["level"], Condition(task), Condition(task))
    return judge(own["tasks"][task]["measures"], old["tasks"][task]["measures"], sentence, LEAST_CLIPS)


def _differences(tasks: Sequence[str], verdicts: Sequence[Any]) -> str:
    """Row per score: its value on each task and the difference to the teacher's."""
    names = [name for name in SCORES if any(name in verdict.scores for verdict in verdicts)]
    rows = []
    for name in names:
        found = [verdict.scores.get(name) for verdict in verdicts]
        cells = ["-" if one is None else f"{one.new:.2f} ({one.difference:+.2f})" for one in found]
        rows.append([name.replace("_", " "), *cells])
    return markdown_table(["value (difference)", *tasks], rows)


def _said(verdict: Any, task: str) -> str:
    d = CLOSE if task == "t2av" else NEAR
    if verdict.holds is None:
        return "nothing to compare"
    told = f"mean difference {verdict.mean:+.3f}, above {-d / 2:+.3f} is needed"
    below = [name.replace("_", " ") for name, score in verdict.scores.items() if score.fails]
    return f"{'within' if verdict.holds else 'not within'} {d:g}; {told}" + f"; below: {', '.join(below)}" * bool(below)


def _curve(folder: Path) -> str:
    """Row per evaluation of the first task in folder/curve, fewest evaluations of the model first."""
    made = []
    for file in (folder / "curve").glob("*.json"):
        metrics = read_json(file)
        (task,) = metrics["tasks"]
        result, config = metrics["tasks"][task], metrics["config"]
        scores = result["measures"]["scores"]
        values = [_number(scores.get(name, {})) for name in CURVE]
        own = config["checkpoint"].rstrip("/").endswith(folder.name)
        which = "few steps" if own else f"teacher, {config['guidance']['form']}"
        steps = config["steps"] if isinstance(config["steps"], int) else "default"
        made.append(
            (
                config["level"],
                result["evaluations"],
                not own,
                [which, str(steps), f"{result['evaluations']:g}", *values],
            )
        )
    if not made:
        raise UserError(f"{folder / 'curve'}: no metrics of other numbers of steps")
    head = ["by", "steps", "evaluations", *(name.replace("_", " ") for name in CURVE)]
    parts = []
    for level in dict.fromkeys(sorted((one[0] for one in made), reverse=True)):
        rows = [row for of, _, _, row in sorted(made, key=lambda one: one[1:3]) if of == level]
        parts.append(f"t2av of `{level}` by the number of evaluations:\n\n" + markdown_table(head, rows))
    return "\n".join(parts)


def _number(score: Mapping[str, Any]) -> str:
    return "-" if score.get("value") is None or score["clips"] < LEAST_CLIPS else f"{score['value']:.2f}"
