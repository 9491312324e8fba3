"""Which held-out clips are measured: the first ones, or those in which something is told that too few tell so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count

from shared.puppets.clip import told_by_captions
from shared.puppets.script import Spec
from shared.puppets.told import Told

KNOWN, LEAST_SHARE = 512, 0.02
"""Scripts that are looked through for what is told at all, and the share of them that has to tell it."""


def attributes(told: Told) -> frozenset[str]:
    """Names of what is told of a clip, and of what can be measured of it for that reason."""
    found = {"events"} if told.objects else set[str]()
    for thing in (*told.people, *told.objects):
        found |= {name for name in ("side", "shirt", "size", "colour", "count") if getattr(thing, name, None)}
    found |= {name for name in ("light", "pace", "mode") if getattr(told, name)}
    found |= {"speech"} if told.speech_is_visible else set()
    found |= {"binding"} if max(len(told.people), len(told.objects)) > 1 else set()
    found |= {"once"} if told.count == 1 else set()
    found |= {"one of two speaks"} if len(told.people) == 2 and sum(bool(p.speaks) for p in told.people) == 1 else set()
    return frozenset(found | ({"drifting"} if told.drifting else set()))


def chosen(script: Callable[[int], Spec], each: int | None) -> Iterator[Spec]:
    """Yield the scripts 0, 1, 2 .. or, with `each`, those that tell an attribute that fewer than `each` of the scripts
    so far tell; all, once every attribute is told so often. Attributes that hardly any script tells do not count."""
    if each is None:
        yield from map(script, count())
        return
    told = Counter(name for i in range(KNOWN) for name in attributes(told_by_captions(script(i))))
    known = {name for name, clips in told.items() if clips >= LEAST_SHARE * KNOWN}
    so_far = Counter[str]()
    for spec in map(script, count()):
        names = attributes(told_by_captions(spec)) & known
        if any(so_far[name] < each for name in names) or all(so_far[name] >= each for name in known):
            so_far.update(names)
            yield spec
