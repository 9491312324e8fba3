"""What is chosen for all clips of a set beside its level: lengths, frame rates, shots, how much captions tell.

Each choice is drawn from a stream of its own, so a clip's other draws are those that it would have had without.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from shared.puppets.script import sample_spec
from shared.puppets.shows import Show, sample_show
from shared.puppets.spec import MOST_COUNTED, Prop, Spec
from shared.utils.errors import UserError
from shared.utils.rng import numpy_generator


@dataclass(frozen=True)
class Mixture:
    """Whole numbers, and the share of the clips that has each: ((16, 0.8), (24, 0.2)); shares sum to 1."""

    shares: tuple[tuple[int, float], ...]

    @classmethod
    def of(cls, *values: int) -> Mixture:
        """Make one of equal shares."""
        return cls(tuple((value, 1 / len(values)) for value in values))

    @property
    def settings(self) -> int | dict[str, float]:
        """Shares by number, to be kept beside the clips; the number alone, where it is the only one."""
        return self.shares[0][0] if len(self.shares) == 1 else {str(value): share for value, share in self.shares}

    def draw(self, seed: int, *names: object) -> int:
        """Draw a number from the stream `names`."""
        values, shares = zip(*self.shares, strict=True)
        return int(numpy_generator(seed, *names).choice(values, p=shares))


def mixture(low: int, high: int) -> Callable[[Any], Any]:
    """Make a validator that reads "2" or "1,2" (equal shares) or "1:.2,2:.8" as a `Mixture` of numbers in [low, high].
    ValueError for any other text, a number that occurs twice, and shares that do not sum to 1."""

    def read(text: Any) -> Any:
        if isinstance(text, Mixture):
            return text
        parts = [part.partition(":") for part in str(text).split(",")]
        told = f"{text}: give whole numbers from {low} to {high}, as {low} or {low},{high} or {low}:.2,{high}:.8"
        try:
            values = [int(value) for value, _, _ in parts]
            given = [float(share) for _, colon, share in parts if colon]
        except ValueError:
            raise ValueError(told) from None
        if not all(low <= value <= high for value in values) or len(given) not in (0, len(parts)):
            raise ValueError(told)
        if len(set(values)) < len(values):
            raise ValueError(f"{text}: a number occurs twice; give each once, with its share")
        if given and not (all(0 < share <= 1 for share in given) and abs(sum(given) - 1) < 1e-6):
            raise ValueError(f"{text}: the shares sum to {sum(given):g}; each must be above 0, and all sum to 1")
        total = sum(given)
        return Mixture(tuple(zip(values, [s / total for s in given], strict=True))) if given else Mixture.of(*values)

    return read


@dataclass(frozen=True)
class Choices:
    """`seconds` and `fps`, None: as the level has them; `shots` at most and `held_out`, of `shows` alone, as
    `sample_show` has them; `told`: share of the clips whose captions tell all that they can; `lossless`: files that
    return what was drawn; `style`: how it looks and sounds, None: the stage; `style_mentioned`: captions name it."""

    seconds: Mixture | None = None
    fps: Mixture | None = None
    shots: int | None = None
    held_out: bool = False
    told: float | None = None
    lossless: bool = False
    style: str | None = None
    style_mentioned: bool = False

    def settings(self) -> dict[str, Any]:
        """Collect what is kept beside the clips: no more than is chosen."""
        given = {name: value for name, value in vars(self).items() if value is not None and value is not False}
        return {name: value.settings if isinstance(value, Mixture) else value for name, value in given.items()}

    def check(self, level: str) -> None:
        """Raise UserError for what only the level `shows` has to choose, or all others have."""
        if level == "shows" and self.style not in (None, "stage"):
            raise UserError(f"puppet level 'shows' is of the stage alone; leave style {self.style} out")
        if level == "shows" and self.style_mentioned:
            raise UserError("puppet level 'shows' has one style, which its captions do not name")
        if level != "shows" and (wrong := [name for name in ("shots", "held_out") if getattr(self, name)]):
            raise UserError(f"puppet level '{level}' has no {', '.join(wrong)} to choose; level 'shows' has")

    def show(self, seed: int, level: str, size: tuple[int, int], conflict: float, index: int) -> Show:
        """Draw clip `index`. UserError as `sample_spec` and `sample_show`."""
        clip = "clip", index, level
        seconds = None if self.seconds is None else self.seconds.draw(seed, *clip, "seconds")
        fps = None if self.fps is None else self.fps.draw(seed, *clip, "fps")
        if level == "shows":
            show = sample_show(seed, index, size, self.shots, fps, self.held_out, seconds)
        else:
            show = Show((sample_spec(seed, index, level, size, conflict, seconds=seconds, fps=fps),))
        if self.told is not None and numpy_generator(seed, *clip, "told").random() < self.told:
            show = Show(tuple(map(tell_all, show.shots)))
        style = self.style or "stage"
        return Show(tuple(replace(shot, style=style, style_mentioned=self.style_mentioned) for shot in show.shots))


def tell_all(spec: Spec) -> Spec:
    """Script whose captions tell all that captions of its level can: never when something happens."""
    shows = spec.level == "shows"

    def told(prop: Prop) -> tuple[str, ...]:
        side = ("side",) if shows and prop.visible else ()
        return ("size", "colour", *side, *(("count",) if len(prop.onsets) <= MOST_COUNTED else ()))

    return replace(
        spec, mood_mentioned=True, music_mentioned=shows and spec.music,
        characters=tuple(replace(person, mentioned=("shirt", "side")) for person in spec.characters),
        props=tuple(replace(prop, mentioned=told(prop)) for prop in spec.props),
        distractors=tuple(replace(thing, mentioned=True) for thing in spec.distractors),
    )  # fmt: skip
