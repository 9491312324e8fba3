"""The sections of an ablation's plan: clips, start, evaluation, probes, metrics, curves, variants, guidance."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from shared.utils.config_sections import Count, Positive, Rate, Section

Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
Task = Literal["t2av", "a2v", "v2a", "mtv"]
Form = Literal["dual", "joint", "context", "text", "none"]
PerStream = float | tuple[float, float]
Flag = str | int | float | list[str] | list[float]


class ClipSet(Section):
    """Clips of the puppets, made by make_puppets.py into OUTPUT/clips/NAME."""

    level: Literal["simple", "full"] = "full"
    size: Count = 32  # pixels, height and width
    seed: int
    clips: Count
    conflict: Rate = 0.0


class Start(Section):
    """A training run made once, from whose checkpoint all variants start: `into` is the key of the train config that
    takes it, init_streams (the two streams alone) or init (all weights)."""

    into: Literal["init_streams", "init"]
    base: str
    overrides: dict[str, Any] = Field(default={})
    seed: int = 0
    processes: Count = 1


class Evaluation(Section):
    """Options of evaluate.py, by their names; what is null is left to its default."""

    level: Literal["simple", "full"] = "full"
    clips: Annotated[int, Field(ge=2)] = 64
    tasks: list[Task] = Field(default=["t2av"])
    steps: Count | None = None
    guidance: Form | None = None
    text_scale: PerStream | None = None
    context_scale: PerStream | None = None
    variants: str | None = None
    batch: Count | None = None


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
    seconds: tuple[float, float] | None = None
    table: str = "Secondary metrics"
    digits: int = Field(default=3, ge=0, le=9)


class Curves(Section):
    """The loss curves: `tasks` of losses.csv, averaged with a time constant of `smoothing` steps, drawn from step
    `first` on (the paper's Figure 5: EMA, from iteration 100)."""

    tasks: list[str] = Field(default=["t2av"])
    first: Annotated[int, Field(ge=0)] = 100
    smoothing: Positive = 50.0
    points: Count = 120


class AblationVariant(Section):
    """One way to train, or with `same_as` the training of another variant: under its own `evaluate`, or as an alias
    that shows the other's numbers once more (16 context tokens are `ccl`). `evaluate` and `probe` change the plan's for
    this variant; with `same_as` and no `probe` its probes are the other's. `group` gathers variants in the report and
    for --only."""

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
    """Trained variants evaluated once more under each setting: how adherence to the text trades for sync. `reference`:
    the name of the setting that the others are compared with in endpoints measured under each; null: in none."""

    variant: str
    reference: str | None = None
    seeds: list[int]
    evaluate: dict[str, Any] = Field(default={})
    settings: list[GuidanceSetting] = Field(min_length=1)
    adherence: list[Metric] = Field(min_length=1)
    sync: list[Metric] = Field(min_length=1)
