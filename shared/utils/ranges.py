"""Ranges of the numbers that users give, of options and keys alike: each has an end on both sides."""

from typing import Annotated

from pydantic import AllowInfNan, Field

from shared.utils.errors import UserError

Rate = Annotated[float, AllowInfNan(False), Field(ge=0, le=1)]
Decay = Annotated[float, AllowInfNan(False), Field(ge=0, lt=1)]
#: A positive factor, or a weight of a loss or a task, which may be 0.
Factor = Annotated[float, AllowInfNan(False), Field(gt=0, le=1000)]
Weight = Annotated[float, AllowInfNan(False), Field(ge=0, le=1_000_000)]
#: Of a random state.
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
#: How many of anything: one at least, none at least, or two.
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Natural = Annotated[int, Field(ge=0, le=1_000_000_000)]
Pair = Annotated[int, Field(ge=2, le=1_000_000_000)]
#: Solver steps.
Steps = Annotated[int, Field(ge=1, le=10_000)]
#: Clips, prompts or runs that are worked on at a time, and processes or threads that do.
Batch = Annotated[int, Field(ge=1, le=65_536)]
Workers = Annotated[int, Field(ge=1, le=4096)]
#: A process's number, −1 where a launcher says none.
Rank = Annotated[int, Field(ge=-1, le=1_000_000)]
#: People whose voices are told apart; a prompt's template counts to nine.
Speakers = Annotated[int, Field(ge=2, le=9)]
#: Pictures side by side in one.
Strip = Annotated[int, Field(ge=1, le=100)]
#: Pictures a second, pixels of a side, samples a second, and seconds of a clip.
Fps = Annotated[float, AllowInfNan(False), Field(gt=0, le=240)]
Side = Annotated[int, Field(ge=1, le=16_384)]
SampleRate = Annotated[int, Field(ge=1000, le=384_000)]
Seconds = Annotated[float, AllowInfNan(False), Field(gt=0, le=86_400)]
WindowSeconds = Annotated[float, AllowInfNan(False), Field(gt=0, le=120)]
#: Seconds of a cross-fade; 0 is a cut.
Fade = Annotated[float, AllowInfNan(False), Field(ge=0, le=120)]
#: Of AdamW.
LearningRate = Annotated[float, AllowInfNan(False), Field(gt=0, le=1)]
WeightDecay = Annotated[float, AllowInfNan(False), Field(ge=0, le=100)]
#: A number without a range of its own: a device's speed, an adapter's alpha, a bound.
Amount = Annotated[float, AllowInfNan(False), Field(gt=0, le=1_000_000)]
#: Of guidance; 1 is none, and below it a condition counts less than trained.
Scale = Annotated[float, AllowInfNan(False), Field(ge=-100, le=100)]
#: Pixels of a latent's side.
Stride = Annotated[int, Field(ge=1, le=256)]
#: Values of a vector, and layers or heads of a model.
Width = Annotated[int, Field(ge=1, le=1_048_576)]
Depth = Annotated[int, Field(ge=1, le=4096)]
#: A layer's number, from 0.
Layer = Annotated[int, Field(ge=0, le=4095)]


def checked_fps(fps: float) -> float:
    """Give back frames a second. UserError unless they are in the range of a checkpoint's."""
    check_range("fps", fps, 0.001, 1000, whole=False)
    return fps


def check_range(name: str, value: object, low: float, high: float, whole: bool = True) -> None:
    """Raise UserError unless `value`, called `name`, is a number (`whole`: an integer) in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not low <= value <= high:
        raise UserError(f"{name} is {value!r}; a {'whole ' * whole}number from {low:g} to {high:g} is needed")
