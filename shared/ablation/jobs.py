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

from shared.ablation.arguments import flags, training
from shared.ablation.plan import OWNED, Plan
from shared.ablation.sections import Evaluation, Probe
from shared.data.shard_index import sha256_of
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
class Job:
    """Steps one after the other in one folder; `needs` are names of jobs that must be done before."""

    name: str
    folder: Path
    settings: Mapping[str, Any]
    steps: list[Step]
    needs: tuple[str, ...] = ()
    processes: int = 1

    @property
    def done(self) -> bool:
        return (self.folder / "done").is_file()


@dataclass(frozen=True)
class Scripts:
    """Where the commands are; another folder serves tests."""

    folder: Path = SCRIPTS
    python: str = sys.executable

    def run(self, name: str, *words: str, processes: int = 1, port: int = FIRST_PORT) -> list[str]:
        """The words of a command; with several processes through DeepSpeed's launcher."""
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

    plan: Plan
    output: Path
    workers: int | None = None
    scripts: Scripts = field(default_factory=Scripts)
    given: Path | None = None

    def groups(self, variants: Collection[str], seeds: Collection[int]) -> list[list[Job]]:
        """What the results of these variants and seeds need. Raises UserError for a configuration that is wrong."""
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

    def clips(self, name: str) -> Job:
        clips = self.plan.clips[name]
        settings = clips.model_dump()
        folder = self.output / "clips" / name
        words = flags(settings | {"output": str(folder / "puppets")})
        step = Step("make", self.scripts.run("make_puppets.py", *words), self.manifest(name))
        return Job(f"clips {name}", folder, settings, [step])

    def start(self) -> Job:
        """The run made once."""
        start = self.plan.start
        assert start is not None, "only asked for where the plan has one"
        folder = self.output / "start"
        overrides = {**start.overrides, **self._owned(folder, start.seed)}
        step, config = self._train(start.base, overrides, "start", folder, start.processes, FIRST_PORT)
        step.command.extend(["--set", f"data.latents={self._latents(config)}"])
        settings = self._settings(config, start.processes)
        return Job("start", folder, settings, [step], self._clips_needed(), start.processes)

    def run(self, variant: str, seed: int, index: int) -> Job:
        """A variant's training with one seed, then its evaluation and its probes."""
        plan, folder, port = self.plan, self.folder(variant, seed), FIRST_PORT + 1 + index
        overrides = {**plan.train_overrides, **plan.variants[variant].overrides, **self._owned(folder, seed)}
        needs = self._clips_needed()
        if plan.start:
            overrides |= {plan.start.into: str(self.begin), "codecs": str(self.begin)}
            needs = needs if self.given else (*needs, "start")
        who = f"variant {variant}"
        train, config = self._train(plan.base, overrides, who, folder, plan.processes, port)
        train.command.extend(["--set", f"data.latents={self._latents(config)}"])
        measured, measures = self._measure(variant, seed, folder / "train/checkpoint", folder)
        settings = self._settings(config, plan.processes) | measures
        if self.given:
            settings["start"] = self._weights
        return Job(f"{variant}-{seed}", folder, settings, [train, *measured], needs, plan.processes)

    def evaluation_of(self, variant: str, seed: int) -> Job:
        """A variant that takes another's training: its own evaluation and probes of that checkpoint."""
        source = self.plan.source(variant)
        folder = self.folder(variant, seed)
        steps, settings = self._measure(variant, seed, self.checkpoint(source, seed), folder)
        return Job(f"{variant}-{seed}", folder, {"same_as": source, **settings}, steps, (f"{source}-{seed}",))

    def guidance(self, variant: str, seed: int) -> Job:
        """The evaluations of a trained variant under each setting of the plan's guidance."""
        plan = self.plan
        assert plan.guidance is not None, "only asked for where the plan has one"
        folder = self.output / "guidance" / f"{variant}-{seed}"
        steps, settings = [], {}
        for setting in plan.guidance.settings:
            scales = {"text_scale": setting.text_scale, "context_scale": setting.context_scale}
            own = {"guidance": setting.form, **scales}
            evaluation = plan.evaluation(plan.guidance.evaluate | own)
            place = folder / setting.name
            steps.append(self._evaluate(evaluation, self.checkpoint(variant, seed), place, setting.name))
            settings[setting.name] = evaluation.model_dump(mode="json", exclude_none=True)
        return Job(f"guidance {variant}-{seed}", folder, settings, steps, (f"{variant}-{seed}",))

    def folder(self, variant: str, seed: int) -> Path:
        return self.output / "runs" / f"{variant}-{seed}"

    def probes(self, variant: str, seed: int) -> Path:
        """The folder of a variant's probes: another's, if the training and the probes are the other's."""
        own = self.plan.variants[variant]
        return self.folder(variant if own.probe or not own.same_as else own.same_as, seed)

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
        """What a training run depends on; where its folders are is no part of it."""
        kept = {key: value for key, value in config.items() if key not in OWNED or key == "seed"}
        return {"train": kept, "train_clips": self.plan.train_clips, "processes": processes}

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
        """A training and its whole configuration, flat."""
        file = self.plan.find(base)
        words, config = training(file, overrides, who)
        given = [word for pair in words for word in ("--set", pair)]
        command = self.scripts.run("train_ccl.py", "--config", file, *given, processes=processes, port=port)
        return Step("train", command, folder / "train/checkpoint/model_index.json"), config

    def _measure(self, variant: str, seed: int, checkpoint: Path, folder: Path) -> tuple[list[Step], dict[str, Any]]:
        """Evaluation and probes of a checkpoint, and the settings that they depend on."""
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
        given: dict[str, Any] = {"checkpoint": str(checkpoint), "output": str(folder)}
        given |= {} if self.workers is None else {"workers": self.workers}
        command = self.scripts.run("evaluate.py", *flags(given), *evaluation.arguments())
        return Step(name, command, folder / "metrics.json")

    def _probe(self, probe: Probe, name: str, checkpoint: Path, folder: Path, pictures: bool) -> Step:
        file = folder / f"probe_{name}.json"
        given = {"checkpoint": str(checkpoint), "manifest": str(self.manifest(probe.clips)), "output": str(file)}
        given |= {"against": str(self.begin)} if probe.forgetting else {}
        given |= {"pictures": str(folder / "pictures")} if pictures else {}
        return Step(f"probe_{name}", self.scripts.run("probe.py", *flags(given | probe.options)), file)


def weights_of(checkpoint: Path) -> str:
    """A digest of a checkpoint's transformer. Raises UserError where there is none."""
    files = sorted((checkpoint / "transformer").glob("*.safetensors"))
    if not files:
        raise UserError(f"--start {checkpoint}: has no transformer/*.safetensors; give the folder of a checkpoint")
    return hashlib.sha256("".join(sha256_of(file) for file in files).encode()).hexdigest()[:16]
