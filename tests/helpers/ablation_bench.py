"""A plan of an ablation with stand-ins for the scripts that it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ablate
import pytest
import yaml

from shared.ablation import jobs

COMMON = """
import json, pathlib, random, sys
here, words = pathlib.Path(__file__).parent, sys.argv[1:]
given = {a: b for a, b in zip(words, words[1:]) if a.startswith("--")}
sets = dict(b.split("=", 1) for a, b in zip(words, words[1:]) if a == "--set")
with (here / "calls.jsonl").open("a") as file:
    file.write(json.dumps([pathlib.Path(__file__).stem, words]) + "\\n")
def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
"""
FAKES = {
    "make_puppets.py": 'write(pathlib.Path(given["--output"]) / "manifest.jsonl", "{}")',
    "train_ccl.py": """
out = pathlib.Path(sets["output"])
print("step 1\\rstep 2")
if (here / "broken").exists() and (here / "broken").read_text() in str(out):
    sys.exit("the loss is not finite")
x = float(sets.get("model.x", 0))
rows = [f"{s},{v},t2av,0.0-0.2,{1 / s + x},4" for s in range(1, 30) for v in ("video", "audio")]
write(out / "losses.csv", "step,stream,task,sigma_bucket,loss,samples\\n" + "\\n".join(rows) + "\\n")
write(out / "checkpoint/model_index.json", json.dumps(sets))
""",
    "evaluate.py": """
sets = json.loads((pathlib.Path(given["--checkpoint"]) / "model_index.json").read_text())
draw = random.Random(int(sets["seed"]))
good = 0.8 - float(sets.get("model.x", 0)) - 0.1 * (given.get("--guidance") == "text")
clips = int(given["--clips"])
values = {"value": [good + 0.02 * draw.random() for _ in range(clips)], "weight": [4.0] * clips}
bounds = {"ceiling": 1.0, "floor": 0.2}
scores = {"colour": {"value": 0.5, "value_interval": [0.4, 0.6]} | bounds, "event_f1": {"value": good} | bounds}
config = {"held_out_seed": 900001, "level": "full", "clips": clips}
metrics = {"config": config, "tasks": {"t2av": {"per_clip": {"event_f1": values}, "scores": scores}}}
write(pathlib.Path(given["--output"]) / "metrics.json", json.dumps(metrics))
""",
    "probe.py": """
sets = json.loads((pathlib.Path(given["--checkpoint"]) / "model_index.json").read_text())
loss = {f"stage-full-2-{i:06d}": 0.3 + float(sets.get("model.x", 0)) + 0.01 * i for i in range(6)}
content = {"loss": {"t2av": {"joint": {"mean": 0.3, "per_clip": loss}}}, "model": {"parameters": 12345, "flops": 2e9}}
write(pathlib.Path(given["--output"]), json.dumps(content))
if "--pictures" in given:
    write(pathlib.Path(given["--pictures"]) / "clip.png", "a picture")
""",
}
PLAN: dict[str, Any] = {
    "name": "toy", "title": "A toy", "clips": {"train": {"seed": 1, "clips": 4}, "held": {"seed": 2, "clips": 6}},
    "train_clips": ["train"], "start": {"into": "init_streams", "base": "base.yaml"}, "base": "base.yaml",
    "seeds": [0, 1, 2], "parallel": 2, "reference": "ccl", "evaluate": {"clips": 8, "tasks": ["t2av"]},
    "probe": {"held": {"clips": "held", "forgetting": True, "pictures": True}},
    "endpoints": [
        {"name": "loss", "path": "probe.held.loss.t2av.joint", "better": "lower"},
        {"name": "event score", "path": "metrics.tasks.t2av.per_clip.event_f1", "better": "higher"},
    ],
    "family": [
        {"variant": "bad", "metric": "loss", "claim": "the bad one is worse", "bound": 0.05, "expected": 0.1,
         "deviation": 0.05},
    ],
    "secondary": [
        {"name": "colour", "path": "metrics.tasks.t2av.scores.colour.value", "better": "higher"},
        {"name": "long clips", "path": "metrics.tasks.t2av.per_clip.event_f1", "seconds": [3, 8]},
        {"name": "never measured", "path": "probe.held.leakage.a2v"},
        {"name": "event", "path": "metrics.tasks.t2av.per_clip.event_f1", "better": "higher", "table": "By itself"},
    ],
    "curves": {"tasks": ["t2av"], "first": 5, "smoothing": 3, "points": 10},
    "variants": {
        "ccl": {"label": "CCL"}, "bad": {"label": "a <bad> one", "overrides": {"model.x": 0.2}},
        "no_ucg": {"same_as": "ccl", "evaluate": {"guidance": "text"}}, "again": {"group": "extra", "same_as": "ccl"},
    },
    "guidance": {
        "variant": "ccl", "reference": "dual_2_3", "seeds": [0],
        "settings": [{"form": "none"}, {"form": "dual", "text_scale": [2, 3]}],
        "adherence": [{"name": "colour", "path": "metrics.tasks.t2av.scores.colour.value"}],
        "sync": [{"name": "event", "path": "metrics.tasks.t2av.per_clip.event_f1"}],
    },
}  # fmt: skip
BASE = {"output": "o", "model": {"x": 0.0}, "data": {"manifest": "m"}, "train": {"steps": 10}}


class Bench:
    """A folder with a plan, its base, the fake scripts and an output."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(jobs, "SCRIPTS", folder / "scripts")
        self.folder, self.output = folder, folder / "out"
        (folder / "scripts").mkdir()
        for name, code in FAKES.items():
            (folder / "scripts" / name).write_text(COMMON + code)
        (folder / "base.yaml").write_text(yaml.safe_dump(BASE))
        self.write({})

    def write(self, changes: dict[str, Any]) -> Path:
        (self.folder / "plan.yaml").write_text(yaml.safe_dump(PLAN | changes, sort_keys=False))
        return self.folder / "plan.yaml"

    def run(self, *more: str) -> int:
        try:
            ablate.main(["--plan", str(self.folder / "plan.yaml"), "--output", str(self.output), *more])
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    def calls(self) -> list[tuple[str, list[str]]]:
        """The calls of scripts since the last time this was asked."""
        file = self.folder / "scripts/calls.jsonl"
        found = [tuple(json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []
        file.write_text("")
        return found  # type: ignore[return-value]

    def break_(self, part: str) -> None:
        (self.folder / "scripts/broken").write_text(part)


def names(calls: list[tuple[str, list[str]]]) -> list[str]:
    return sorted(name for name, _ in calls)
