"""Options of the scorer: whose clips, which metrics, and what they are given."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, model_validator

from shared.evaluation.metrics.registry import METRICS, named
from shared.evaluation.suites import SUITES, named_suite
from shared.utils.cli import Options, option
from shared.utils.ranges import Batch, Count, Fps, Workers

Names = Annotated[tuple[str, ...], BeforeValidator(named)]


class ScoreOptions(Options):
    """What score.py is asked to measure."""

    clips: list[Path] = option(
        help="what each model made: a folder of X.mp4 (X.txt: its text) or a manifest.jsonl; NAME=DIR gives it a name",
        positional=True,
    )  # fmt: skip
    metrics: Names = option((), f"some of {','.join(METRICS)}; default: those of --suite", metavar="NAMES")
    suite: str | None = option(
        None, f"texts, by the clips' names, from your copy of {', '.join(SUITES)}", metavar="NAME=PATH"
    )
    output: Path = option(help="for metrics.json, the tables and index.html", metavar="DIR", writes="folder")
    reference: Path | None = option(None, "true clips, for distances of sets", metavar="DIR")
    weights: list[str] = option(
        [], "what a network is loaded from, as clip=FOLDER; any number", metavar="NAME=PATH", repeat=True
    )
    set: list[str] = option(
        [], "a setting of a metric, as temp_c.fps=4; any number", metavar="METRIC.NAME=VALUE", repeat=True
    )
    pairs_by: Literal["name", "text"] | None = option(
        None, "what the clips of two models have in common: paired differences of each model from the first"
    )
    against: Path | None = option(None, "metrics.json of another run, to compare with clip by clip", metavar="FILE")
    compare_anyway: Names = option(
        (), "metrics that are compared with --against although they were measured in another way", metavar="NAMES"
    )
    fps: Fps | None = option(None, "refuse clips of another frame rate; default: each metric refuses what it must")
    small_sets: bool = option(False, "tell distances of sets that are smaller than twice the features' dimension")
    shown: Count = option(12, "clips in the page: so many of the worst by each metric")
    batch: Batch = option(16, "frames or windows that go through a network at a time")
    workers: Workers = option(1, "processes, each with clips and networks of its own")
    device: str = option("auto", "auto (default: a GPU if there is one), cpu, cuda, cuda:1 ...")

    @model_validator(mode="before")
    @classmethod
    def _of_suite(cls, given: dict[str, object]) -> dict[str, object]:
        if given.get("suite"):
            suite, _ = named_suite(str(given["suite"]))
            return given | {"metrics": given.get("metrics") or SUITES[suite].metrics}
        if not given.get("metrics"):
            raise ValueError("--metrics is needed, or --suite, which names its own")
        return given

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if self.compare_anyway and self.against is None:
            raise ValueError("--compare-anyway belongs to --against")
        if wrong := [word for word in self.weights if not all(word.partition("=")[::2])]:
            raise ValueError(f"--weights {wrong[0]}: NAME=PATH is needed")
        return self

    def weight_paths(self) -> dict[str, Path]:
        """Paths of --weights by their names."""
        pairs = (word.partition("=")[::2] for word in self.weights)
        return {name: Path(path) for name, path in pairs}
