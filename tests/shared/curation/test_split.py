from __future__ import annotations

from pathlib import Path

import numpy as np

from shared.curation.config import DemixConfig
from shared.curation.fingerprint import MOMENTS, to_hex
from shared.curation.record import Record
from shared.curation.split import held_out

RNG = np.random.default_rng(0)


def clips(films: int, each: int) -> tuple[list[Record], list[dict[str, list[str]]]]:
    records = [
        Record(f"{film}-{clip}", Path("x.mp4"), f"film{film}", float(clip), clip + 1.0)
        for film in range(films) for clip in range(each)
    ]  # fmt: skip
    bits = ((RNG.random((MOMENTS, 256)) > 0.5, RNG.random((30, 16)) > 0.5) for _ in records)
    return records, [{"pictures": to_hex(pictures), "sound": to_hex(sound)} for pictures, sound in bits]


def test_films_are_held_out_whole_and_stay_where_they_are() -> None:
    records, prints = clips(100, 2)
    config = DemixConfig.model_validate({"split": {"held_out": 0.2}})
    sides = held_out(records, prints, config)
    by_film = {record.source_key: set() for record in records}
    for record, side in zip(records, sides, strict=True):
        by_film[record.source_key].add(side)
    assert all(len(found) == 1 for found in by_film.values()) and 0.12 < np.mean(sides) < 0.28
    assert held_out(records[:100], prints[:100], config) == sides[:100]
    other = held_out(records, prints, config.model_copy(update={"seed": 1}))
    assert other != sides and not any(held_out(records, prints, DemixConfig.model_validate({"split": {"held_out": 0}})))


def test_films_with_a_clip_in_common_are_on_one_side() -> None:
    records, prints = clips(40, 2)
    for film in range(1, 40):
        prints[2 * film] = prints[0]
    config = DemixConfig.model_validate({"split": {"held_out": 0.5}, "duplicates": {"by": "both"}})
    assert len(set(held_out(records, prints, config))) == 1
    assert len(set(held_out(records[1::2], prints[1::2], config))) == 2
