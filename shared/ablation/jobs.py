"""What a plan must run: commands of the other scripts, their folders, and the settings a folder belongs to.

    OUTPUT/clips/NAME/puppets/               make_puppets.py's folder
    OUTPUT/latents/                          the clips, encoded once for all runs
    OUTPUT/start/train/                      the run that all variants start from, if no checkpoint is given
    OUTPUT/runs/VARIANT-SEED/train/          a normal training, with metrics.json, index.html and probe.json beside it
    OUTPUT/guidance/VARIANT-SEED/SETTING/    evaluations under other guidance

Each folder also holds settings.json, about.json, a log per step and, at the end, `done`.
"""

import hashlib
import json
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from shared.ablation.plan import BEGINS, OWNED, AblationPlan, GuidanceSweep
from shared.ablation.plan_sections import Start
from shared.utils.config import TrainConfig, dump_config, flatten
from shared.utils.errors import UserError

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
FIRST_PORT = 29600  # runs of several processes side by side meet at ports from here on
ENCODING = ("data.", "keyframes", "components.", "tracks.encoders")
"""Keys on which it depends how clips are encoded begin like this."""


class Step(NamedTuple):
    """One command, and the file that is there when it has done its work."""

    name: str
    command: list[str]
    makes: Path


@dataclass(frozen=True)
class AblationJob:
    """Steps one after the other in one folder; `needs` are names of jobs that must be done before."""

    name: str
    folder: Path
    settings: Mapping[str, Any]
    steps: list[Step]
    needs: Sequence[str] = ()
    processes: int = 1

    @property
    def done(self) -> bool:
        """Whether all steps were done and the result kept."""
        return (self.folder / "done").is_file()


@dataclass
class Jobs:
    """All jobs of a plan in OUTPUT. `workers`: processes that an evaluation of a run may use; None leaves it to
    evaluate.py (on a GPU). `given`: a checkpoint with codecs to start from in place of the plan's start."""

    plan: AblationPlan
    output: Path
    workers: int | None = None
    given: Path | None = None

    def groups(self, variants: Collection[str], seeds: Collection[int]) -> list[list[AblationJob]]:
        """Return what these variants and seeds need: groups, one after the other, of jobs that may run side by side."""
        plan, sweep = self.plan, self.plan.guidance
        names = [v for v in plan.variants if v in variants and plan.shown_as(v) == v]
        # seed by seed: what is there can soon be compared
        pairs = [(v, s) for s in seeds for v in names if s in plan.seeds_of(v)]
        trained = dict.fromkeys((plan.source(v), s) for v, s in pairs)
        runs = [self.run(v, s, FIRST_PORT + 1 + index) for index, (v, s) in enumerate(trained)]
        others = [self.evaluation_of(v, s) for v, s in pairs if plan.variants[v].same_as]
        if sweep:
            others += [self.guidance(sweep, s) for s in sweep.seeds if (sweep.variant, s) in trained]
        start = [self.start(plan.start)] if plan.start and not self.given else []
        return [group for group in ([self.clips(name) for name in plan.clips], start, runs, others) if group]

    def clips(self, name: str) -> AblationJob:
        settings, folder = self.plan.clips[name].model_dump(), self.output / "clips" / name
        given = {key: value for key, value in settings.items() if value is not None}
        words = command("make_puppets.py", *flags(given | {"output": folder / "puppets"}))
        return AblationJob(f"clips {name}", folder, settings, [Step("make", words, self.manifest(name))])

    def start(self, start: Start) -> AblationJob:
        """Make the job of the run that is done once."""
        folder = self.output / "start"
        step, settings = self._train(start, start.overrides, "start", folder, start.seed, FIRST_PORT)
        for key in (key for key in BEGINS if key in start.overrides):
            settings[key] = weights_digest(f"start.overrides: {key}", Path(start.overrides[key]))
        needs = [f"clips {name}" for name in self.plan.clips]
        return AblationJob("start", folder, settings, [step], needs, start.processes)

    def run(self, variant: str, seed: int, port: int) -> AblationJob:
        """Return a variant's training with one seed, then its evaluation and its probes."""
        plan, folder = self.plan, self.folder(variant, seed)
        overrides = plan.train_overrides | plan.variants[variant].overrides
        needs = [f"clips {name}" for name in plan.clips]
        if plan.start:
            overrides |= {plan.start.into: str(self.begin), "codecs": str(self.begin)}
            needs += [] if self.given else ["start"]
        train, settings = self._train(plan, overrides, f"variant {variant}", folder, seed, port)
        measure, measure_settings = self._measure(variant, seed, self.checkpoint(variant, seed))
        settings |= measure_settings | ({"start": self._weights} if self.given else {})
        return AblationJob(f"{variant}-{seed}", folder, settings, [train, *measure], needs, plan.processes)

    def evaluation_of(self, variant: str, seed: int) -> AblationJob:
        """Variant that takes another's training: its own evaluation and probes of that checkpoint."""
        source, folder = self.plan.source(variant), self.folder(variant, seed)
        steps, settings = self._measure(variant, seed, self.checkpoint(source, seed))
        return AblationJob(f"{variant}-{seed}", folder, {"same_as": source, **settings}, steps, [f"{source}-{seed}"])

    def guidance(self, sweep: GuidanceSweep, seed: int) -> AblationJob:
        """Return the evaluations of a trained variant under each setting of the plan's guidance."""
        run = f"{sweep.variant}-{seed}"
        folder, steps, settings = self.output / "guidance" / run, [], {}
        for setting in sweep.settings:
            scales = {"text_scale": setting.text_scale, "context_scale": setting.context_scale}
            options = self.plan.evaluation({**sweep.evaluate, "guidance": setting.form, **scales})
            checkpoint = self.checkpoint(sweep.variant, seed)
            steps.append(self._evaluate(options, checkpoint, folder / setting.name, setting.name))
            settings[setting.name] = options
        return AblationJob(f"guidance {run}", folder, settings, steps, [run])

    def folder(self, variant: str, seed: int) -> Path:
        return self.output / "runs" / f"{variant}-{seed}"

    def probes(self, variant: str, seed: int) -> Path:
        """Folder of a variant's probes: another's, if the training and the probes are the other's."""
        has_own = self.plan.variants[variant].probe
        return self.folder(variant if has_own else self.plan.source(variant), seed)

    def checkpoint(self, variant: str, seed: int) -> Path:
        return self.folder(variant, seed) / "train/checkpoint"

    def manifest(self, name: str) -> Path:
        return self.output / "clips" / name / "puppets/manifest.jsonl"

    @property
    def begin(self) -> Path:
        """The checkpoint that all variants start from."""
        return self.given or self.output / "start/train/checkpoint"

    @cached_property
    def _weights(self) -> str:
        """Digest of the given checkpoint's transformer, which may be large: read once, not for every run."""
        return weights_digest("--start", self.begin)

    def _train(
        self, run: Start | AblationPlan, changes: Mapping[str, Any], who: str, folder: Path, seed: int, port: int
    ) -> tuple[Step, dict[str, Any]]:
        """Return the step of a training, and what it depends on; runs that read the same share encoded clips."""
        manifests = [str(self.manifest(name)) for name in self.plan.train_clips]
        owned = {"output": str(folder / "train"), "seed": seed, "data.manifest": manifests}
        file = self.plan.find(run.base)
        words, config = overridden(file, {**owned, **changes}, who)
        encoding = {key: value for key, value in config.items() if key.startswith(ENCODING) and key not in OWNED}
        digest = hashlib.sha256(json.dumps(encoding, sort_keys=True, default=str).encode()).hexdigest()
        words.append(f"data.latents={self.output / 'latents' / digest[:12]}")
        sets = [word for pair in words for word in ("--set", pair)]
        train = command("train_ccl.py", "--config", file, *sets, processes=run.processes, port=port)
        depends = {key: value for key, value in config.items() if key not in OWNED or key == "seed"}
        settings = {"train": depends, "train_clips": self.plan.train_clips, "processes": run.processes}
        return Step("train", train, folder / "train/checkpoint/model_index.json"), settings

    def _measure(self, variant: str, seed: int, checkpoint: Path) -> tuple[list[Step], dict[str, Any]]:
        """Return the evaluation and the probes of a checkpoint, and the settings that they depend on."""
        folder, evaluation = self.folder(variant, seed), self.plan.evaluation(self.plan.variants[variant].evaluate)
        steps, settings = [self._evaluate(evaluation, checkpoint, folder, "evaluate")], {"evaluate": evaluation}
        first = seed == self.plan.seeds_of(variant)[0]
        for name, probe in self.plan.probes(variant).items() if self.probes(variant, seed) == folder else ():
            file = folder / f"probe_{name}.json"
            options = {"checkpoint": checkpoint, "manifest": self.manifest(probe.clips), "output": file}
            options |= {"against": self.begin} if probe.forgetting else {}
            options |= {"pictures": folder / "pictures"} if probe.pictures and first else {}
            steps.append(Step(f"probe_{name}", command("probe.py", *flags({**options, **probe.options})), file))
            settings[f"probe_{name}"] = probe.model_dump(mode="json", exclude={"pictures"})
        return steps, settings

    def _evaluate(self, evaluation: Mapping[str, Any], checkpoint: Path, folder: Path, name: str) -> Step:
        workers = {} if self.workers is None else {"workers": self.workers}
        options = {"checkpoint": checkpoint, "output": folder, **workers}
        return Step(name, command("evaluate.py", *flags({**options, **evaluation})), folder / "metrics.json")


def weights_digest(what: str, folder: Path) -> str:
    """Digest of the transformer in a checkpoint's folder. UserError names `what`, if there is none."""
    digests = []
    for file in sorted((folder / "transformer").glob("*.safetensors")):
        with file.open("rb") as content:
            digests.append(hashlib.file_digest(content, "sha256").hexdigest())
    if not digests:
        raise UserError(f"{what} {folder}: has no transformer/*.safetensors; give the folder of a checkpoint")
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]


def command(name: str, *words: str, processes: int = 1, port: int = FIRST_PORT) -> list[str]:
    """Words of a command of scripts/; with several processes through DeepSpeed's launcher."""
    script = os.path.relpath(SCRIPTS / name)
    if processes == 1:
        return [sys.executable, script, *words]
    launcher = str(Path(sys.executable).with_name("deepspeed"))
    return [launcher, "--num_gpus", str(processes), "--master_port", str(port), script, *words]


def overridden(base: str, overrides: Mapping[str, Any], who: str) -> tuple[list[str], dict[str, Any]]:
    """Words of `--set` for a training run, and all keys of its configuration, flat. UserError names `who`."""
    words = []
    for key in sorted(overrides, key=lambda key: key.count(".")):  # sections first: `model` would undo `model.fusion`
        line = yaml.safe_dump(overrides[key], default_flow_style=True, width=2**31, sort_keys=False)
        words.append(f"{key}=" + line.removesuffix("...\n").strip())
    try:
        config = TrainConfig.load(base, words)
    except UserError as error:
        raise UserError(f"{who}: {error}") from None
    return words, flatten(yaml.safe_load(dump_config(config)))


def flags(options: Mapping[str, Any]) -> list[str]:
    """Words of a command: {"text_scale": (2, 3)} -> ["--text-scale", "2,3"], {"lossless": True} -> ["--lossless"]."""
    words = []
    for name, value in options.items():
        if isinstance(value, bool):
            words += [f"--{name.replace('_', '-')}"] if value else []
            continue
        text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        words += [f"--{name.replace('_', '-')}", text]
    return words
