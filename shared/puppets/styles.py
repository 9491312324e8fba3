"""Styles of the puppets: worlds that look and sound differently, and in which the same happens, at the same places.

A script has the name of its style; the painter, the sounds and what reads them back look here. Captions and truth are
the same in all. Bands of the sound stay apart as on the stage (`shared.puppets.sound`), so that each can be measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Colour = tuple[float, float, float] | NDArray[np.float64]
Partials = tuple[tuple[float, float, float], ...]
"""Frequency ratio, amplitude and decay in seconds of each."""


def _of(value: Any) -> Any:
    return field(default_factory=lambda: value)


@dataclass(frozen=True)
class Style:
    """The stage, and in what another style differs from it.

    `wall`: its colour at the top and at the floor, by mood; `stripes`: how much brighter and darker it is in turns.
    `light`: what the mood's light does to the colour of things; the cue is not tinted. `cue`: what marks an onset, a
    white spark or a violet ring that widens. `square`: heads, bodies and bells have straight sides. `mouth_opens`: with
    the loudness, in height or in width."""

    palette: Mapping[str, Colour] = _of({
        "red": (0.87, 0.14, 0.15), "green": (0.13, 0.66, 0.28), "blue": (0.13, 0.35, 0.90),
        "yellow": (0.97, 0.80, 0.10),
    })  # fmt: skip
    wall: Mapping[str, tuple[Colour, Colour]] = _of(
        {
            "warm bright": ((0.98, 0.80, 0.66), (0.90, 0.62, 0.46)),
            "cold dark": ((0.08, 0.12, 0.27), (0.15, 0.22, 0.42)),
            "warm dark": ((0.24, 0.11, 0.10), (0.42, 0.21, 0.14)),
            "cold bright": ((0.66, 0.83, 0.97), (0.47, 0.67, 0.90)),
        }
    )
    light: Mapping[str, Colour] = _of({
        "warm bright": (1.0, 0.97, 0.92), "cold dark": (0.80, 0.81, 0.90),
        "warm dark": (0.86, 0.78, 0.70), "cold bright": (0.92, 0.97, 1.0),
    })  # fmt: skip
    stripes: float = 0.0
    floor: tuple[Colour, Colour] = ((0.50, 0.31, 0.22), (0.40, 0.24, 0.17))
    skin: Colour = (0.95, 0.76, 0.62)
    neck: Colour = (0.86, 0.64, 0.51)
    ears: Colour = (0.90, 0.68, 0.55)
    hair: Mapping[str, Colour] = _of({"man": (0.22, 0.14, 0.09), "woman": (0.50, 0.22, 0.09)})
    mouth: Colour = (0.26, 0.03, 0.07)
    mouth_opens: Literal["in height", "in width"] = "in height"
    square: bool = False
    cue: Literal["spark", "ring"] = "spark"
    formants: float = 1.0  # times those of a man
    base_pitch: Mapping[str, float] = _of({"ball": 95.0, "bell": 330.0, "drum": 130.0})
    partials: Mapping[str, Partials] = _of(
        {
            "bell": ((0.5, 0.06, 0.5), (1.0, 0.2, 0.4), (1.2, 0.1, 0.3), (1.5, 0.07, 0.25), (2.0, 0.06, 0.2)),
            "drum": ((1.0, 0.34, 0.16), (1.59, 0.2, 0.1), (2.14, 0.136, 0.08), (2.3, 0.1, 0.07), (2.65, 0.07, 0.06)),
        }
    )
    click: Literal["noise", "chirp"] = "noise"
    pad: tuple[float, ...] = (0.12, 0.35, 1.0, 0.0)  # harmonics of the music, the highest first


STYLES: dict[str, Style] = {
    "stage": Style(),
    "cutout": Style(
        palette={
            "red": (0.70, 0.05, 0.12), "green": (0.45, 0.75, 0.10), "blue": (0.10, 0.62, 0.85),
            "yellow": (1.0, 0.62, 0.05),
        },
        wall={
            "warm bright": ((0.99, 0.93, 0.72), (0.97, 0.80, 0.60)),
            "cold dark": ((0.05, 0.17, 0.20), (0.10, 0.30, 0.33)),
            "warm dark": ((0.33, 0.10, 0.04), (0.28, 0.13, 0.12)),
            "cold bright": ((0.72, 0.94, 0.93), (0.80, 0.88, 0.96)),
        },
        stripes=0.05,
        floor=((0.42, 0.42, 0.45), (0.30, 0.30, 0.34)),
        skin=(0.97, 0.90, 0.74), neck=(0.80, 0.72, 0.58), ears=(0.80, 0.72, 0.58),
        hair={"man": (0.12, 0.14, 0.30), "woman": (0.66, 0.36, 0.10)},
        mouth=(0.08, 0.08, 0.22), mouth_opens="in width", square=True, cue="ring",
        formants=1.25,
        base_pitch={"ball": 71.0, "bell": 250.0, "drum": 98.0},
        partials={
            "bell": ((1.0, 0.18, 0.3), (1.41, 0.12, 0.45), (1.83, 0.08, 0.2)),
            "drum": ((0.5, 0.2, 0.2), (1.0, 0.3, 0.12), (1.31, 0.2, 0.09), (1.9, 0.12, 0.05)),
        },
        click="chirp", pad=(0.2, 0.0, 0.33, 0.0, 1.0, 0.0),
    ),
}  # fmt: skip
"""By name; a script's is `stage` unless something else is asked for. Level `shows` is of the stage alone."""
