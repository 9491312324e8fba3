"""The scenes of `simple` over a longer time: the same words tell them, so lengths are compared on the same captions."""

from collections.abc import Mapping
from dataclasses import replace

from shared.puppets.spec import DURATIONS, FIRST_ONSET, LAST_ONSET, Spec
from shared.utils.errors import UserError

LENGTHS: Mapping[str, tuple[int, ...]] = {**DURATIONS, "simple": (2, 4, 8)}
"""Seconds that held-out clips of a level may last."""


def lasting(spec: Spec, seconds: int) -> Spec:
    """Script of `simple` over `seconds`, a multiple of its own: as many events, spread as before from the first to the
    last moment they may have, and those who speak say the same again until the end. UserError for another length."""
    times, rest = divmod(seconds, spec.duration)
    if spec.level != "simple" or rest or not times:
        raise UserError(f"{spec.id}: lasts {spec.duration:g} s and cannot last {seconds}; give a multiple, of simple")
    if times == 1:
        return spec
    own, wanted = (length - FIRST_ONSET - LAST_ONSET for length in (spec.duration, seconds))
    props = tuple(
        replace(p, onsets=tuple(FIRST_ONSET + (onset - FIRST_ONSET) * wanted / own for onset in p.onsets))
        for p in spec.props
    )
    starts = [k * spec.duration for k in range(int(times))]
    people = tuple(
        replace(
            c, syllables=tuple(replace(s, start=s.start + at, end=s.end + at) for at in starts for s in c.syllables)
        )
        for c in spec.characters
    )
    return replace(spec, frames=seconds * spec.fps, props=props, characters=people)
