"""Which clips are held out: whole films, and with them all that are nearly the same, never clips by themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shared.curation.config import DemixConfig
from shared.curation.duplicates import groups, pairs
from shared.curation.record import Record
from shared.utils.rng import derive


def held_out(records: Sequence[Record], prints: Sequence[Mapping[str, Any]], config: DemixConfig) -> list[bool]:
    """Say of each clip whether it is held out. A film's side follows from the seed and from the content of the films of
    its group alone, so that films that come later move no other, unless they are nearly the same."""
    same = [(records[i].source_key, records[j].source_key) for i, j in pairs(prints, config.duplicates)]
    group = groups((record.source_key for record in records), same)
    drawn = {name: derive(config.seed, "held out", name) / 2**63 for name in set(group.values())}
    return [drawn[group[record.source_key]] < config.split.held_out for record in records]
