"""A study with people: which clips of which models each rater compares, in which order, and on which side.

A study is a YAML file:
    title: Which is better?
    sets: {ours: clips/ours, theirs: clips/theirs}     # folders or manifests, relative to the file
    criteria: {sync: In which do picture and sound fit better?}
    trials: 30
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.data.manifest import Clip
from shared.evaluation.score_clips import ClipSet, keys, read_clips
from shared.utils import config_file
from shared.utils.errors import UserError
from shared.utils.ranges import Count, Natural, Seed
from shared.utils.rng import numpy_generator

KEY = "key.json"
"""File that says what was shown."""


class StudyConfig(BaseModel):
    """What a study asks, of which clips, and of how many raters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = Field(min_length=1)
    sets: dict[str, Path] = Field(min_length=2)
    criteria: dict[str, str] = Field(min_length=1)
    pairs_by: Literal["name", "text"] = "name"
    trials: Count = 30
    catch: Natural = 3
    raters: Count = 20
    show_text: bool = True
    seed: Seed = 0


@dataclass(frozen=True)
class Trial:
    """Two clips side by side, of one `item`; `catch`: which side is right, of a trial whose other side is spoilt."""

    item: str
    left: str  # set
    right: str
    left_clip: str  # id
    right_clip: str
    catch: Literal["", "left", "right"] = ""


def read_config(file: Path) -> StudyConfig:
    """Read what a study asks. UserError for a wrong key."""
    try:
        return StudyConfig.model_validate(config_file.read(file, []))
    except ValidationError as error:
        raise UserError(config_file.explain(error, file, StudyConfig)) from None


def read_study(file: Path) -> tuple[StudyConfig, list[ClipSet]]:
    """Read a study and the clips of its sets. UserError for a wrong key, and for sets without a common clip."""
    config = read_config(file)
    sets = [ClipSet(name, path, read_clips(file.parent / path)) for name, path in config.sets.items()]
    for one in sets:
        for clip in one.clips:
            if clip.video is None or clip.audio != clip.video or clip.start or clip.end is not None:
                told = f"{file}: sets.{one.name}: clip {clip.id!r} is no whole video with its own sound"
                raise UserError(f"{told}; a study shows files as they are, write it as one")
    for first, second in combinations(sets, 2):
        if not common(first.clips, second.clips, config.pairs_by):
            raise UserError(f"{file}: {first.name} and {second.name} have no clip of one {config.pairs_by}")
    return config, sets


def common(first: Sequence[Clip], second: Sequence[Clip], pairs_by: str) -> list[tuple[str, str, str]]:
    """Items that both sets have: the key, and the clip of each."""
    there = {key: clip for clip, key in keys(second, pairs_by).items()}
    return [(key, clip, there[key]) for clip, key in keys(first, pairs_by).items() if key in there]


def plan(config: StudyConfig, sets: Sequence[ClipSet]) -> list[list[Trial]]:
    """Trials of each rater, shuffled. Over all raters each comparison is shown equally often, to within one, and a
    model stands on the left as often as on the right, to within one for each comparison; a rater sees a comparison once
    at most. UserError for more trials than comparisons."""
    pairs = [
        (one.name, two.name, *item)
        for one, two in combinations(sets, 2)
        for item in common(one.clips, two.clips, config.pairs_by)
    ]
    for name, count in (("trials", config.trials), ("catch", config.catch)):
        if count > len(pairs):
            raise UserError(f"{name} = {count}: there are {len(pairs)} comparisons; give no more")
    draw = numpy_generator(config.seed, "study")
    shown: Counter[int] = Counter()
    first_left = draw.integers(2, size=len(pairs))
    raters = []
    for rater in range(config.raters):
        draw = numpy_generator(config.seed, "study", rater)
        order = sorted(draw.permutation(len(pairs)).tolist(), key=lambda number: shown[number])[: config.trials]
        trials = []
        for number in order:
            one, two, item, a, b = pairs[number]
            trial = Trial(item, one, two, a, b)
            turned = (first_left[number] + shown[number]) % 2
            trials.append(Trial(item, two, one, b, a) if turned else trial)
            shown[number] += 1
        for number in draw.permutation(len(pairs))[: config.catch].tolist():
            one, _, item, a, _ = pairs[number]
            trials.append(Trial(item, one, one, a, a, "left" if draw.integers(2) else "right"))
        raters.append([trials[number] for number in draw.permutation(len(trials)).tolist()])
    return raters


def trial_id(rater: int, number: int) -> str:
    """Name a trial so that it tells nothing of what is shown."""
    return f"{rater + 1:03d}-{number + 1:03d}"


def as_key(raters: Sequence[Sequence[Trial]]) -> dict[str, Any]:
    """Tell what is behind each trial, by its id: for the analysis, not for raters."""
    return {trial_id(r, n): asdict(trial) for r, trials in enumerate(raters) for n, trial in enumerate(trials)}
