"""What a plan must run: commands of the other scripts, their folders, and the settings a folder belongs to.

    OUTPUT/clips/NAME/puppets/               make_puppets.py's folder
    OUTPUT/latents/                          the clips, encoded once for all runs
    OUTPUT/start/train/                      the run that all variants start from, if no checkpoint is given
    OUTPUT/runs/VARIANT-SEED/train/          a normal training, with metrics.json, index.html and probe.json beside it
    OUTPUT/guidance/VARIANT-SEED/SETTING/    evaluations under other guidance

Each folder also holds settings.json, about.json, a log per step and, at the end, `done`.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from shared.ablation.plan import OWNED, AblationPlan
from shared.ablation.sections import Evaluation, ProbeSettings
from shared.utils.config import TrainConfig, dump_config, flatten
from shared.utils.errors import UserError

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
FIRST_PORT = 29600
"""Runs of several processes side by side meet at ports from here on."""


@dataclass(frozen=True)
class Step:
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
    needs: tuple[str, ...] = ()
    processes: int = 1

    @property
    def done(self) -> bool:
        """Whether all steps were done and the result kept."""
        return (self.folder / "done").is_file()


@dataclass(frozen=True)
class Scripts:
    """Where the commands are; another folder serves tests."""

    folder: Path = field(default_factory=lambda: SCRIPTS)
    python: str = sys.executable

    def run(self, name: str, *words: str, processes: int = 1, port: int = FIRST_PORT) -> list[str]:
        """Words of a command; with several processes through DeepSpeed's launcher."""
        script = os.path.relpath(self.folder / name)
        if processes == 1:
            return [self.python, script, *words]
        launcher = str(Path(self.python).with_name("deepspeed"))
        return [launcher, "--num_gpus", str(processes), "--master_port", str(port), script, *words]


@dataclass
class Jobs:
    """All jobs of a plan in OUTPUT, in groups: those of a group may run side by side, the groups one after the other.

    Args:
        workers: processes that an evaluation of a run may use; None leaves it to evaluate.py (on a GPU).
        given: a checkpoint with codecs to start from in place of the plan's start.
    """

    plan: AblationPlan
    output: Path
    workers: int | None = None
    scripts: Scripts = field(default_factory=Scripts)
    given: Path | None = None

    def groups(self, variants: Collection[str], seeds: Collection[int]) -> list[list[AblationJob]]:
        """Return what the results of these variants and seeds need. UserError for a configuration that is wrong."""
        plan = self.plan
        names = [v for v in plan.variants if v in variants and not plan.is_alias(v)]
        pairs = [(v, s) for s in seeds for v in names]  # seed by seed: what is there can soon be compared
        trained = dict.fromkeys((plan.source(v), s) for v, s in pairs)
        runs = [self.run(v, s, index) for index, (v, s) in enumerate(trained)]
        others = [self.evaluation_of(v, s) for v, s in pairs if plan.variants[v].same_as]
        if plan.guidance:
            others += [
                self.guidance(plan.guidance.variant, s)
                for s in plan.guidance.seeds
                if (plan.guidance.variant, s) in trained
            ]
        start = [self.start()] if plan.start and not self.given else []
        return [group for group in ([self.clips(name) for name in plan.clips], start, runs, others) if group]

    def clips(self, name: str) -> AblationJob:
        clips = self.plan.clips[name]
        settings = clips.model_dump()
        folder = self.output / "clips" / name
        words = flags(settings | {"output": str(folder / "puppets")})
        step = Step("make", self.scripts.run("make_puppets.py", *words), self.manifest(name))
        return AblationJob(f"clips {name}", folder, settings, [step])

    def start(self) -> AblationJob:
        """Make the job of the run that is done once."""
        start = self.plan.start
        assert start is not None, "only asked for where the plan has one"
        folder = self.output / "start"
        overrides = {**start.overrides, **self._owned(folder, start.seed)}
        step, config = self._train(start.base, overrides, "start", folder, start.processes, FIRST_PORT)
        settings = self._settings(config, start.processes)
        return AblationJob("start", folder, settings, [step], self._clips_needed(), start.processes)

    def run(self, variant: str, seed: int, index: int) -> AblationJob:
        """Return a variant's training with one seed, then its evaluation and its probes."""
        plan, folder, port = self.plan, self.folder(variant, seed), FIRST_PORT + 1 + index
        overrides = {**plan.train_overrides, **plan.variants[variant].overrides, **self._owned(folder, seed)}
        needs = self._clips_needed()
        if plan.start:
            overrides |= {plan.start.into: str(self.begin), "codecs": str(self.begin)}
            needs = needs if self.given else (*needs, "start")
        train, config = self._train(plan.base, overrides, f"variant {variant}", folder, plan.processes, port)
        measure, measure_settings = self._measure(variant, seed, folder / "train/checkpoint", folder)
        settings = self._settings(config, plan.processes) | measure_settings
        if self.given:
            settings["start"] = self._weights
        return AblationJob(f"{variant}-{seed}", folder, settings, [train, *measure], needs, plan.processes)

    def evaluation_of(self, variant: str, seed: int) -> AblationJob:
        """Variant that takes another's training: its own evaluation and probes of that checkpoint."""
        source = self.plan.source(variant)
        folder = self.folder(variant, seed)
        steps, settings = self._measure(variant, seed, self.checkpoint(source, seed), folder)
        return AblationJob(f"{variant}-{seed}", folder, {"same_as": source, **settings}, steps, (f"{source}-{seed}",))

    def guidance(self, variant: str, seed: int) -> AblationJob:
        """Return the evaluations of a trained variant under each setting of the plan's guidance."""
        plan = self.plan
        assert plan.guidance is not None, "only asked for where the plan has one"
        folder = self.output / "guidance" / f"{variant}-{seed}"
        steps, settings = [], {}
        for setting in plan.guidance.settings:
            scales = {"text_scale": setting.text_scale, "context_scale": setting.context_scale}
            evaluation = plan.evaluation({**plan.guidance.evaluate, "guidance": setting.form, **scales})
            checkpoint = self.checkpoint(variant, seed)
            steps.append(self._evaluate(evaluation, checkpoint, folder / setting.name, setting.name))
            settings[setting.name] = evaluation.model_dump(mode="json", exclude_none=True)
        return AblationJob(f"guidance {variant}-{seed}", folder, settings, steps, (f"{variant}-{seed}",))

    def folder(self, variant: str, seed: int) -> Path:
        return self.output / "runs" / f"{variant}-{seed}"

    def probes(self, variant: str, seed: int) -> Path:
        """Folder of a variant's probes: another's, if the training and the probes are the other's."""
        settings = self.plan.variants[variant]
        return self.folder(variant if settings.probe or not settings.same_as else settings.same_as, seed)

    def checkpoint(self, variant: str, seed: int) -> Path:
        return self.folder(variant, seed) / "train/checkpoint"

    @property
    def begin(self) -> Path:
        """The checkpoint that all variants start from."""
        return self.given or self.output / "start/train/checkpoint"

    @cached_property
    def _weights(self) -> str:
        """Of the given checkpoint, which may be large: read once, not for every run."""
        assert self.given is not None, "only asked for where one is given"
        return weights_of(self.given)

    def manifest(self, name: str) -> Path:
        return self.output / "clips" / name / "puppets/manifest.jsonl"

    def _owned(self, folder: Path, seed: int) -> dict[str, Any]:
        manifests = [str(self.manifest(name)) for name in self.plan.train_clips]
        return {"output": str(folder / "train"), "seed": seed, "data.manifest": manifests}

    def _clips_needed(self) -> tuple[str, ...]:
        return tuple(f"clips {name}" for name in self.plan.clips)

    def _settings(self, config: Mapping[str, Any], processes: int) -> dict[str, Any]:
        """Return what a training run depends on; where its folders are is no part of it."""
        train = {key: value for key, value in config.items() if key not in OWNED or key == "seed"}
        return {"train": train, "train_clips": self.plan.train_clips, "processes": processes}

    def _latents(self, config: Mapping[str, Any]) -> Path:
        """Where what the run reads is encoded, by the first that needs it: a folder for all runs that read the same."""
        read = {key: value for key, value in config.items() if key.startswith("data.") and key not in OWNED}
        more = ("keyframes", "components.", "tracks.encoders")
        read |= {key: value for key, value in config.items() if key.startswith(more)}
        digest = hashlib.sha256(json.dumps(read, sort_keys=True, default=str).encode()).hexdigest()
        return self.output / "latents" / digest[:12]

    def _train(
        self, base: str, overrides: Mapping[str, Any], who: str, folder: Path, processes: int, port: int
    ) -> tuple[Step, dict[str, Any]]:
        """Return the step of a training and its whole configuration, flat."""
        file = self.plan.find(base)
        words, config = overridden(file, overrides, who)
        words.append(f"data.latents={self._latents(config)}")
        settings = [word for pair in words for word in ("--set", pair)]
        command = self.scripts.run("train_ccl.py", "--config", file, *settings, processes=processes, port=port)
        return Step("train", command, folder / "train/checkpoint/model_index.json"), config

    def _measure(self, variant: str, seed: int, checkpoint: Path, folder: Path) -> tuple[list[Step], dict[str, Any]]:
        """Return the evaluation and the probes of a checkpoint, and the settings that they depend on."""
        evaluation = self.plan.evaluation(self.plan.variants[variant].evaluate)
        steps = [self._evaluate(evaluation, checkpoint, folder, "evaluate")]
        settings: dict[str, Any] = {"evaluate": evaluation.model_dump(mode="json", exclude_none=True)}
        if self.probes(variant, seed) == folder:
            first = seed == self.plan.seeds[0]
            for name, probe in self.plan.probes(variant).items():
                settings[f"probe_{name}"] = probe.model_dump(mode="json", exclude={"pictures"})
                steps.append(self._probe(probe, name, checkpoint, folder, probe.pictures and first))
        return steps, settings

    def _evaluate(self, evaluation: Evaluation, checkpoint: Path, folder: Path, name: str) -> Step:
        options: dict[str, Any] = {"checkpoint": checkpoint, "output": folder}
        options |= {} if self.workers is None else {"workers": self.workers}
        command = self.scripts.run("evaluate.py", *flags(options | evaluation.model_dump(exclude_none=True)))
        return Step(name, command, folder / "metrics.json")

    def _probe(self, probe: ProbeSettings, name: str, checkpoint: Path, folder: Path, pictures: bool) -> Step:
        file = folder / f"probe_{name}.json"
        options: dict[str, Any] = {"checkpoint": checkpoint, "manifest": self.manifest(probe.clips), "output": file}
        options |= {"against": self.begin} if probe.forgetting else {}
        options |= {"pictures": folder / "pictures"} if pictures else {}
        return Step(f"probe_{name}", self.scripts.run("probe.py", *flags(options | probe.options)), file)


def overridden(base: str, overrides: Mapping[str, Any], who: str) -> tuple[list[str], dict[str, Any]]:
    """Words of `--set` for a training run, and all keys of its configuration, flat. Raises UserError naming
    `who`."""
    sections_first = sorted(overrides, key=lambda key: key.count("."))  # or `model` would undo `model.fusion`
    words = [f"{key}={_yaml(overrides[key])}" for key in sections_first]
    try:
        config = TrainConfig.load(base, words)
    except UserError as error:
        raise UserError(f"{who}: {error}") from None
    return words, flatten(yaml.safe_load(dump_config(config)))


def flags(options: Mapping[str, Any]) -> list[str]:
    """Words of a command: {"text_scale": (2, 3)} -> ["--text-scale", "2,3"]."""
    words = []
    for name, value in options.items():
        text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        words += [f"--{name.replace('_', '-')}", text]
    return words


def weights_of(checkpoint: Path) -> str:
    """Digest of a checkpoint's transformer. Raises UserError where there is none."""
    files = sorted((checkpoint / "transformer").glob("*.safetensors"))
    if not files:
        raise UserError(f"--start {checkpoint}: has no transformer/*.safetensors; give the folder of a checkpoint")
    return hashlib.sha256("".join(map(_sha256, files)).encode()).hexdigest()[:16]


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _yaml(value: Any) -> str:
    """Return a value on one line, as `--set` reads it back."""
    text = yaml.safe_dump(value, default_flow_style=True, width=2**31, sort_keys=False)
    return text.removesuffix("...\n").strip()
