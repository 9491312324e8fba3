"""The plan of an ablation, a YAML file: variants x seeds, what is measured and, before anything runs, what decides."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import Field, PrivateAttr, ValidationError, model_validator

from shared.ablation.plan_sections import (
    AblationVariant,
    ClipSet,
    Contrast,
    Convergence,
    Curves,
    Evaluation,
    Form,
    Metric,
    Name,
    PerStream,
    ProbeSettings,
    Start,
)
from shared.utils import config_file
from shared.utils.config_sections import Section
from shared.utils.errors import UserError
from shared.utils.ranges import Seed, Workers
from shared.utils.text_files import is_file

T = TypeVar("T", bound=Section)

OWNED = ("output", "seed", "data.manifest", "data.latents", "codecs", "init", "init_streams")
"""Keys of a training configuration that a variant may not set: the plan does."""
BEGINS = ("init", "init_streams")
"""Those of them that the start may set, which may itself go on from a checkpoint."""


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
    group_seeds: dict[Name, list[Seed]] = Field(default={})  # of groups that have others
    evaluate: Evaluation = Evaluation()
    probe: dict[Name, ProbeSettings] = Field(default={})
    endpoints: list[Metric] = Field(min_length=1, max_length=3)
    family: list[Contrast] = Field(default=[])
    secondary: list[Metric] = Field(default=[])
    curves: Curves = Curves()
    guidance: GuidanceSweep | None = None
    convergence: Convergence | None = None
    parallel: Workers = 1
    _file: Path = PrivateAttr(default=Path("plan.yaml"))

    @model_validator(mode="after")
    def _consistent(self) -> AblationPlan:
        problems = chain(self._bad_clips(), self._bad_variants(), self._bad_names(), self._bad_comparisons())
        for problem in problems:  # the first one, as later ones may hang on it
            raise ValueError(problem)
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
            if key in OWNED and not (section == "start.overrides" and key in BEGINS):
                yield f"{section}: {key} is the plan's to set; leave it out"
        swept = self.guidance.variant if self.guidance else self.reference
        for key, name in (("reference", self.reference), ("guidance.variant", swept)):
            if name not in self.variants or self.variants[name].same_as:
                yield f"{key}: {name} is none of the variants with a training of its own"
        if self.reference in self.variants and self.variants[self.reference].group in self.group_seeds:
            yield f"group_seeds: the seeds of {self.reference}'s group are the plan's own, `seeds`"
        if self.guidance and not set(self.guidance.seeds) <= set(self.seeds):
            yield f"guidance.seeds: {self.guidance.seeds} must be among the plan's seeds {self.seeds}"

    def _bad_comparisons(self) -> Iterator[str]:
        groups = {variant.group for variant in self.variants.values()}
        named = [(f"variants.{name}.against", one.against) for name, one in self.variants.items() if one.against]
        named += [(f"family.{i}.variant", contrast.variant) for i, contrast in enumerate(self.family)]
        for label, line in self.convergence.lines.items() if self.convergence else ():
            named += [(f"convergence.lines.{label}", name) for name in line]
        for key, name in named:
            if name not in self.variants:
                yield f"{key}: {name} is none of the plan's variants"
            elif self.shown_as(name) == self.reference and key.startswith("family"):
                yield f"{key}: {name} is the reference, which is compared with the others"
        endpoints = {metric.name: metric for metric in self.endpoints}
        for i, contrast in enumerate(self.family):
            if contrast.metric not in endpoints or endpoints[contrast.metric].better is None:
                yield f"family.{i}.metric: {contrast.metric} is no endpoint that says what is better"
            elif contrast.variant in self.variants and len({*self.seeds_of(contrast.variant)} & {*self.seeds}) < 2:
                yield f"family.{i}: {contrast.variant} shares less than 2 seeds with {self.reference}"
        if self.convergence and self.convergence.metric not in {metric.name for metric in self.metrics}:
            yield f"convergence.metric: {self.convergence.metric} is none of the plan's metrics"
        used = [(f"group_seeds.{group}", group) for group in self.group_seeds]
        used += [(f"probe.{key}.groups", group) for key, probe in self.probe.items() for group in probe.groups or ()]
        for key, group in used:
            if group not in groups:
                yield f"{key}: no variant is of group {group}; there are {', '.join(sorted(groups))}"
        for name in self.variants:
            if other := set(self.seeds_of(name)) - set(self.seeds_of(self.source(name))):
                yield f"variants.{name}: takes a training that has no seed {sorted(other)[0]}"

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
        for key, seeds in {"seeds": self.seeds, **{f"group_seeds.{g}": s for g, s in self.group_seeds.items()}}.items():
            if len(set(seeds)) < len(seeds):
                yield f"{key}: {seeds}; each may stand once"
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

    @property
    def all_seeds(self) -> list[int]:
        """Seeds of any group, those of the plan first."""
        return list(dict.fromkeys([*self.seeds, *(seed for some in self.group_seeds.values() for seed in some)]))

    def seeds_of(self, variant: str) -> list[int]:
        """Return the seeds of a variant: those of its group, if it has its own, or the plan's."""
        return self.group_seeds.get(self.variants[variant].group, self.seeds)

    def compared_with(self, variant: str) -> str:
        """Variant that another is compared with; itself for the reference of all."""
        return self.variants[variant].against or self.reference

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
        changes, group = self.variants[variant].probe, self.variants[variant].group
        if unknown := set(changes) - set(self.probe):
            raise UserError(f"{self._file}: variants.{variant}.probe: {sorted(unknown)[0]} is no probe of the plan")
        own = {key: probe for key, probe in self.probe.items() if probe.groups is None or group in probe.groups}
        return {key: self._changed(probe, changes.get(key, {}), f"probe.{key}") for key, probe in own.items()}

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
            if seed not in self.all_seeds:
                raise UserError(f"--seeds {seed}: the plan has {', '.join(map(str, self.all_seeds))}")
        return self.all_seeds if seeds is None else list(seeds)

    def find(self, name: str) -> str:
        """Return a file the plan names: from the working directory, then from the plan's folder and those above it."""
        candidates = [Path(name), *(folder / name for folder in self._file.resolve().parents)]
        if (file := next((path for path in candidates if is_file(path)), None)) is None:
            raise UserError(f"{self._file}: {name}: no such file, from the working directory or from the plan")
        return os.path.relpath(file) if file.is_absolute() and Path.cwd() in file.parents else str(file)


def load_plan(path: str | os.PathLike[str]) -> AblationPlan:
    """Read a plan; with `extends: FILE`, of the same folder, it is that plan with its mappings merged key by key, all
    else replaced, and what is null taken away; with `only: [NAME, ...]` just these of its variants and groups. Raises
    UserError naming the file, the key and what would be right."""
    file = Path(path)
    content = config_file.read(file, [])
    only = content.pop("only", None)
    if "extends" in content:
        base = file.parent / str(content.pop("extends"))
        content = _merged(config_file.read(base, []), content)
        if "extends" in content:
            raise UserError(f"{file}: extends {base}, which extends another; name that one")
    if only is not None:
        content["variants"] = _only(content.get("variants"), only, file)
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


def _only(variants: Any, names: Any, file: Path) -> dict[str, Any]:
    """Variants that are named themselves or by their group, as a file has them."""
    groups = {name: (one or {}).get("group", "main") for name, one in (variants or {}).items()}
    known = {*groups, *groups.values()}
    if not isinstance(names, list) or not set(names) <= known:
        raise UserError(f"{file}: only: {names}: give a list of variants or groups, of {', '.join(sorted(known))}")
    return {name: one for name, one in variants.items() if {name, groups[name]} & set(names)}


def _merged(base: Any, changes: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(changes, dict)):
        return changes
    merged = base | {key: _merged(base[key], value) if key in base else value for key, value in changes.items()}
    return {key: value for key, value in merged.items() if value is not None or key not in changes}


def dump_plan(plan: AblationPlan) -> str:
    """YAML that `load_plan` reads back to the same plan."""
    return yaml.safe_dump(plan.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True)
