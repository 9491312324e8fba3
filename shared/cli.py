"""What the scripts share: an argument parser whose errors are one line, and values for two streams."""

from __future__ import annotations

import argparse
import math
from typing import NoReturn

from shared.errors import UserError


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
