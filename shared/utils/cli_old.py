"""What the scripts share: an argument parser whose errors are one line, and values for two streams."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from shared.utils.errors import UserError

if TYPE_CHECKING:  # a script says what is wrong with its arguments before torch is loaded
    import torch

    from shared.encoders.timed_prompts import TimedPrompts


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that shows the script's own text as it is, and raises `UserError`."""

    def __init__(self, description: str | None = None, **options: object) -> None:
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter, **options)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see --help)")


def per_stream(option: str, text: str) -> tuple[float, float]:
    """ "2" -> (2, 2); "3,2" -> (3, 2): video, audio. Raises UserError naming `option`."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 2) or not all(map(math.isfinite, values)):
        raise UserError(f"{option} {text}: one number, or two as VIDEO,AUDIO, are needed")
    return values[0], values[-1]


def device(name: str) -> torch.device:
    """`auto` is a GPU if there is one. Raises UserError for a device that is not here."""
    import torch

    cuda = torch.cuda.is_available()
    try:
        chosen = torch.device(("cuda" if cuda else "cpu") if name == "auto" else name)
    except RuntimeError:
        chosen = torch.device("meta")
    count = {"cpu": 1, "cuda": torch.cuda.device_count()}.get(chosen.type, 0)
    if (chosen.index or 0) >= count:
        raise UserError(f"--device {name}: there is no such device here; use {'cuda' if cuda else 'cpu'}")
    return chosen


def timed_prompts(path: Path, duration: float) -> TimedPrompts:
    """Raises UserError as `TimedPrompts.read`, and for a text that would only begin after the end."""
    from shared.encoders.timed_prompts import TimedPrompts

    timed = TimedPrompts.read(path)
    if timed.times[-1] >= duration:
        raise UserError(f"{path}: a text begins at {timed.times[-1]:g} s, the video ends at {duration:g} s")
    return timed
