"""Where the objects and the people of a script are in its pictures, and where neither is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from shared.puppets.picture import Array, render
from shared.puppets.script import Spec

Masks = dict[str, NDArray[np.bool_]]
REGIONS = ("objects", "people", "rest")
LEAST = 6
"""How many of 255 steps a pixel differs by from the empty stage, in any colour, to belong to what stands there."""


def regions(spec: Spec, mouths: list[Array], span: range | None = None) -> Masks:
    """Pixels of each of REGIONS, bool [T, H, W]; `mouths` and `span` as `render` takes them. A spark counts as its
    object's."""
    props, people = render(replace(spec, characters=()), [], span), render(replace(spec, props=()), mouths, span)
    empty = render(replace(spec, characters=(), props=()), [], span).astype(int)
    objects, persons = (np.abs(painted - empty).max(-1) > LEAST for painted in (props, people))
    return {"objects": objects & ~persons, "people": persons, "rest": ~(objects | persons)}
