"""The plan of an ablation, a YAML file: variants x seeds, what is measured and, before anything runs, what decides."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import Field, PrivateAttr, ValidationError, model_validator

from shared.utils import config_file
from shared.utils.config_sections import Section
from shared.utils.errors import UserError
from shared.utils.ranges import Amount, Batch, Count, Natural, Rate, Scale, Seed, Side, Steps, Weight, Workers
from shared.utils.text_files import is_file

Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
Task = Literal["t2av", "a2v", "v2a", "mtv"]
Form = Literal["dual", "joint", "context", "text", "none"]
PerStream = Scale | tuple[Scale, Scale]
Flag = str | int | float | list[str] | list[float]
T = TypeVar("T", bound=Section)

OWNED = ("output", "seed", "data.manifest", "data.latents", "codecs", "init", "init_streams")
"""Keys of a training configuration that a variant may not set: the plan does."""


class ClipSet(Section):
    """Clips of the puppets, made by make_puppets.py into OUTPUT/clips/NAME."""

    level: Literal["simple", "full"] = "full"
    size: Side = 32  # pixels, height and width
    seed: Seed
    clips: Count
    conflict: Rate = 0.0


class Start(Section):
    """A training run made once, from whose checkpoint all variants start: `into` is the key of the train config that
    takes it, init_streams (the two streams alone) or init (all weights)."""

    into: Literal["init_streams", "init"]
    base: str
    overrides: dict[str, Any] = Field(default={})
    seed: Seed = 0
    processes: Workers = 1


class Evaluation(Section):
    """Options of evaluate.py, by their names; what is null is left to its default."""

    level: Literal["simple", "full"] = "full"
    clips: Annotated[int, Field(ge=2, le=1_000_000)] = 64
    tasks: list[Task] = Field(default=["t2av"])
    steps: Steps | None = None
    guidance: Form | None = None
    text_scale: PerStream | None = None
    context_scale: PerStream | None = None
    variants: str | None = None
    batch: Batch | None = None


class ProbeSettings(Section):
    """probe.py on one of the plan's sets of clips; `options` are its own. `forgetting` compares the losses of t2v and
    t2a with those of the start; `pictures` keeps a map of attention of each variant, from its first seed."""

    clips: str
    options: dict[str, Flag] = Field(default={})
    forgetting: bool = False
    pictures: bool = False


class Metric(Section):
    """A number of a run: `path` leads to it in metrics.json ("metrics.tasks.t2av...") or probe.json ("probe.NAME...").

    At its end stands a number, or {"mean": number}, or values per clip: a list, a dictionary by clip's id, {"per_clip":
    such a dictionary} or {"value": [...], "weight": [...]}. Of values per clip the number is the weighted mean, and
    differences are taken clip by clip. `seconds` keeps the clips whose length lies between the two, both included.
    `table` is the title of the table that a secondary metric stands in."""

    name: str
    path: str = Field(pattern=r"^(metrics|probe)\..+")
    better: Literal["higher", "lower"] | None = None
    seconds: tuple[Weight, Weight] | None = None
    table: str = "Secondary metrics"
    digits: int = Field(default=3, ge=0, le=9)


class Curves(Section):
    """The loss curves: `tasks` of losses.csv, averaged with a time constant of `smoothing` steps, drawn from step
    `first` on (the paper's Figure 5: EMA, from iteration 100)."""

    tasks: list[str] = Field(default=["t2av"])
    first: Natural = 100
    smoothing: Amount = 50.0
    points: Annotated[int, Field(ge=1, le=100_000)] = 120


class AblationVariant(Section):
    """One way to train, or with `same_as` another's training: under its own `evaluate`, or as an alias that shows the
    other's numbers (16 context tokens are `ccl`). `evaluate` and `probe` change the plan's; with `same_as` and no
    `probe` its probes are the other's. `group` gathers variants in the report and for --only."""

    label: str = ""
    question: str = ""
    group: Name = "main"
    overrides: dict[str, Any] = Field(default={})
    evaluate: dict[str, Any] = Field(default={})
    probe: dict[Name, dict[str, Any]] = Field(default={})
    same_as: str | None = None


class GuidanceSetting(Section):
    """One form of guidance with its scales."""

    form: Form
    text_scale: PerStream | None = None
    context_scale: PerStream | None = None

    @property
    def name(self) -> str:
        """A file's name, as "dual_2.5_3"."""
        scales = [s if isinstance(s, tuple) else (s,) for s in (self.text_scale, self.context_scale) if s is not None]
        return "_".join([self.form, *(f"{value:g}" for scale in scales for value in scale)])

    @property
    def label(self) -> str:
        """A name for people, as "dual 2.5, 3"."""
        form, *scales = self.name.split("_")
        return " ".join(filter(None, [form, ", ".join(scales)]))


class GuidanceSweep(Section):
    """A trained variant evaluated under each setting: how adherence to the text trades for sync. `reference`: the name
    of the setting that the others are compared with in endpoints measured under each; null: in none."""

    variant: str
    reference: str | None = None
    seeds: list[Seed]
    evaluate: dict[str, Any] = Field(default={})
    settings: list[GuidanceSetting] = Field(min_length=1)
    adherence: list[Metric] = Field(min_length=1)
    sync: list[Metric] = Field(min_length=1)


class AblationPlan(Section):
    """A whole ablation; see `configs/ablation/`."""

    name: Name
    title: str = ""
    clips: dict[Name, ClipSet]
    train_clips: list[str] = Field(min_length=1)
    start: Start | None = None
    base: str
    train_overrides: dict[str, Any] = Field(default={})
    processes: Workers = 1  # of each run
    variants: dict[Name, AblationVariant] = Field(min_length=1)
    reference: str
    seeds: list[Seed] = Field(min_length=1)
    evaluate: Evaluation = Evaluation()
    probe: dict[Name, ProbeSettings] = Field(default={})
    endpoints: list[Metric] = Field(min_length=1, max_length=2)
    secondary: list[Metric] = Field(default=[])
    curves: Curves = Curves()
    guidance: GuidanceSweep | None = None
    parallel: Workers = 1
    _file: Path = PrivateAttr(default=Path("plan.yaml"))

    @model_validator(mode="after")
    def _consistent(self) -> AblationPlan:
        if problems := [*self._bad_clips(), *self._bad_variants(), *self._bad_names()]:
            raise ValueError(problems[0])
        return self

    def _bad_clips(self) -> Iterator[str]:
        used = [("train_clips", name) for name in self.train_clips]
        used += [(f"probe.{key}.clips", probe.clips) for key, probe in self.probe.items()]
        for key, name in used:
            if name not in self.clips:
                yield f"{key}: {name} is none of the clips {', '.join(self.clips)}"
            elif key != "train_clips" and name in self.train_clips:
                yield f"{key}: {name} is trained on; measure on clips of another seed"
            elif key == "train_clips" and self.clips[name].conflict:
                yield f"{key}: {name} holds clips whose text contradicts the sound; they only measure"
        seeds = [clips.seed for clips in self.clips.values()]
        if len(set(seeds)) < len(seeds):
            yield f"clips: their seeds are {seeds}; they must differ, or held-out clips are trained on"
        for key, probe in self.probe.items():
            if probe.forgetting and (self.start is None or self.start.into != "init_streams"):
                yield f"probe.{key}.forgetting: compares with the towers; give start with into: init_streams"

    def _bad_variants(self) -> Iterator[str]:
        for name, variant in self.variants.items():
            other = self.variants.get(variant.same_as or name)
            if other is None or (variant.same_as and other.same_as) or variant.same_as == name:
                yield f"variants.{name}.same_as: {variant.same_as} is no other variant with a training of its own"
            elif variant.same_as and variant.overrides:
                yield f"variants.{name}: same_as takes the training of {variant.same_as}; it has no overrides"
        changes = {"train_overrides": self.train_overrides}
        changes |= {"start.overrides": self.start.overrides} if self.start else {}
        changes |= {f"variants.{name}.overrides": variant.overrides for name, variant in self.variants.items()}
        for section, key in ((section, key) for section, overrides in changes.items() for key in overrides):
            if key in OWNED:
                yield f"{section}: {key} is the plan's to set; leave it out"
        swept = self.guidance.variant if self.guidance else self.reference
        for key, name in (("reference", self.reference), ("guidance.variant", swept)):
            if name not in self.variants or self.variants[name].same_as:
                yield f"{key}: {name} is none of the variants with a training of its own"
        if self.guidance and not set(self.guidance.seeds) <= set(self.seeds):
            yield f"guidance.seeds: {self.guidance.seeds} must be among the plan's seeds {self.seeds}"

    def _bad_names(self) -> Iterator[str]:
        for key, metrics in (("metric", self.metrics), ("guidance metric", self.guided_metrics)):
            names = [metric.name for metric in metrics]
            if twice := sorted({name for name in names if names.count(name) > 1}):
                yield f"two {key}s have one name: {', '.join(twice)}"
        for metric in (*self.metrics, *self.guided_metrics):
            kind, _, rest = metric.path.partition(".")
            if kind == "probe" and rest.partition(".")[0] not in self.probe:
                known = ", ".join(self.probe) or "none"
                yield f"metric {metric.name!r}: {metric.path} is of no probe of the plan; it has {known}"
        if len(set(self.seeds)) < len(self.seeds):
            yield f"seeds: {self.seeds}; each may stand once"
        names = [setting.name for setting in self.guidance.settings] if self.guidance else []
        if len(set(names)) < len(names):
            yield "guidance.settings: the same setting stands twice"
        if self.guidance and self.guidance.reference not in (None, *names):
            yield f"guidance.reference: {self.guidance.reference} is none of the settings {', '.join(names)}"

    @property
    def metrics(self) -> list[Metric]:
        """The endpoints, then the others."""
        return [*self.endpoints, *self.secondary]

    @property
    def guided_metrics(self) -> list[Metric]:
        return [*self.guidance.adherence, *self.guidance.sync] if self.guidance else []

    def label(self, variant: str) -> str:
        return self.variants[variant].label or variant.replace("_", " ")

    def source(self, variant: str) -> str:
        """Variant whose training `variant` takes: itself, or the one it is the same as."""
        return self.variants[variant].same_as or variant

    def shown_as(self, variant: str) -> str:
        """Variant whose numbers stand under this name: another's for an alias, which has no run of its own."""
        return variant if self.variants[variant].evaluate else self.source(variant)

    def evaluation(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Options of evaluate.py: the plan's with some changed. Raises UserError naming a wrong one."""
        return self._changed(self.evaluate, changes, "evaluate").model_dump(mode="json", exclude_none=True)

    def probes(self, variant: str) -> dict[str, ProbeSettings]:
        """Return the plan's probes as the variant has them. Raises UserError naming what is wrong in them."""
        changes = self.variants[variant].probe
        if unknown := set(changes) - set(self.probe):
            raise UserError(f"{self._file}: variants.{variant}.probe: {sorted(unknown)[0]} is no probe of the plan")
        return {key: self._changed(probe, changes.get(key, {}), f"probe.{key}") for key, probe in self.probe.items()}

    def _changed(self, section: T, changes: Mapping[str, Any], name: str) -> T:
        try:
            return type(section).model_validate(section.model_dump() | dict(changes))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, (name, *first["loc"])))
            raise UserError(f"{self._file}: {key} = {first['input']!r}: {first['msg']}") from None

    def chosen_variants(self, only: str | None) -> list[str]:
        """Variants that `only` names by themselves or by their group; None: all. UserError for an unknown name."""
        if only is None:
            return list(self.variants)
        names = {name.strip() for name in only.split(",")}
        known = dict.fromkeys([*self.variants, *sorted({variant.group for variant in self.variants.values()})])
        if unknown := sorted(names - known.keys()):
            raise UserError(f"--only {unknown[0]}: no such variant or group in the plan; it has {', '.join(known)}")
        return [name for name, variant in self.variants.items() if {name, variant.group} & names]

    def chosen_seeds(self, seeds: Sequence[int] | None) -> list[int]:
        """Return some of the plan's seeds; None: all of them. Raises UserError for one that the plan does not have."""
        for seed in seeds or ():
            if seed not in self.seeds:
                raise UserError(f"--seeds {seed}: the plan has {', '.join(map(str, self.seeds))}")
        return self.seeds if seeds is None else list(seeds)

    def find(self, name: str) -> str:
        """Return a file the plan names: from the working directory, then from the plan's folder and those above it."""
        candidates = [Path(name), *(folder / name for folder in self._file.resolve().parents)]
        if (file := next((path for path in candidates if is_file(path)), None)) is None:
            raise UserError(f"{self._file}: {name}: no such file, from the working directory or from the plan")
        return os.path.relpath(file) if file.is_absolute() and Path.cwd() in file.parents else str(file)


def load_plan(path: str | os.PathLike[str]) -> AblationPlan:
    """Read a plan; with `extends: FILE`, of the same folder, it is that plan with its mappings merged key by key, all
    else replaced. Raises UserError naming the file, the key and what would be right."""
    file = Path(path)
    content = config_file.read(file, [])
    if "extends" in content:
        base = file.parent / str(content.pop("extends"))
        content = _merged(config_file.read(base, []), content)
        if "extends" in content:
            raise UserError(f"{file}: extends {base}, which extends another; name that one")
    try:
        plan = AblationPlan.model_validate(content)
    except ValidationError as error:
        raise UserError(config_file.explain(error, file, AblationPlan)) from None
    plan._file = file
    for name, variant in plan.variants.items():
        plan.evaluation(variant.evaluate)
        plan.probes(name)
    if plan.guidance:
        plan.evaluation(plan.guidance.evaluate)
    return plan


def _merged(base: Any, changes: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(changes, dict)):
        return changes
    return base | {key: _merged(base[key], value) if key in base else value for key, value in changes.items()}


def dump_plan(plan: AblationPlan) -> str:
    """YAML that `load_plan` reads back to the same plan."""
    return yaml.safe_dump(plan.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True)
