"""Sections of an ablation's plan, as its YAML file has them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from shared.puppets.choices import mixture
from shared.puppets.shows import RATES, SECONDS
from shared.utils.config_sections import Section
from shared.utils.ranges import Amount, Batch, Count, Natural, Rate, Scale, Seed, Side, Steps, Weight, Workers

Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
Style = Literal["stage", "cutout"]
Task = Literal["t2av", "a2v", "v2a", "mtv"]
Form = Literal["dual", "joint", "context", "text", "none"]
PerStream = Scale | tuple[Scale, Scale]
Flag = str | int | float | list[str] | list[float]


def _mixture(low: int, high: int) -> Callable[[str], str]:
    """Make a check of "2", "1,2" or "1:.2,2:.8", which make_puppets.py reads."""

    def check(text: str) -> str:
        mixture(low, high)(text)
        return text

    return check


class ClipSet(Section):
    """Clips of the puppets, made by make_puppets.py into OUTPUT/clips/NAME; `seconds` and `fps` as its options."""

    level: Literal["simple", "full"] = "full"
    size: Side = 32  # pixels, height and width
    seed: Seed
    clips: Count
    conflict: Rate = 0.0
    seconds: Annotated[str, AfterValidator(_mixture(*SECONDS))] | None = None
    fps: Annotated[str, AfterValidator(_mixture(*RATES))] | None = None
    style: Style = "stage"


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
    style: Style | None = None
    conflict: bool = False


class ProbeSettings(Section):
    """probe.py on one of the plan's sets of clips; `options` are its own. `forgetting` compares the losses of t2v and
    t2a with those of the start; `pictures` keeps a map of attention of each variant, from its first seed. `groups`:
    of variants that are probed; null: all."""

    clips: str
    options: dict[str, Flag] = Field(default={})
    forgetting: bool = False
    pictures: bool = False
    groups: list[Name] | None = None


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

    @property
    def task(self) -> str | None:
        """The task of evaluate.py that it is of, without its variant; None for a probe's."""
        kind, _, rest = self.path.partition(".tasks.")
        return re.split(r"[.:]", rest)[0] if kind == "metrics" else None


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
    `probe` its probes are the other's. `group` gathers variants in the report, for --only and for seeds of their own;
    `against`: the variant that it is compared with, null for the plan's reference."""

    label: str = ""
    question: str = ""
    group: Name = "main"
    overrides: dict[str, Any] = Field(default={})
    evaluate: dict[str, Any] = Field(default={})
    probe: dict[Name, dict[str, Any]] = Field(default={})
    same_as: str | None = None
    against: str | None = None


class Contrast(Section):
    """One contrast of the primary family, written down before the runs: the reference against `variant`, by the
    endpoint named `metric`. `claim` holds if the reference is better; within `bound` either way, a difference is called
    smaller than that. The stated power rests on an `expected` difference and a `deviation` of differences over seeds.
    """

    variant: str
    metric: str
    claim: str
    bound: Amount
    expected: Amount
    deviation: Amount


class Convergence(Section):
    """How `metric` grows with training: each of the `lines`, by its label, is of variants that train longer and longer.
    `target`: the score for which the samples are told."""

    metric: str
    target: float = Field(ge=-1e6, le=1e6)
    lines: dict[str, list[str]] = Field(min_length=1)
