from __future__ import annotations

from pathlib import Path

import pytest

from shared.curation.config import DemixConfig
from shared.curation.estimate import Estimate, estimate, spaced
from shared.curation.record import Context, Finding, Record, Stage


def halves(record: Record, context: Context) -> Finding:
    return Finding(figures={"spans": [[0.0, record.end / 2, "", ""], [record.end / 2, record.end, "", ""]]})


def write(record: Record, context: Context) -> Finding:
    (context.output / record.key).write_bytes(bytes(10_000))
    return Finding("drop", "rule", "") if record.start else Finding()


def film(seconds: float) -> Record:
    return Record(f"{seconds}", Path("x.mp4"), f"{seconds}", 0.0, seconds)


def test_what_a_sample_takes_is_brought_to_the_whole(tmp_path: Path) -> None:
    films = [film(seconds) for seconds in (30, 600, 100, 200, 400)]
    context = Context(DemixConfig(), tmp_path, None)  # type: ignore[arg-type]
    found = estimate((Stage("shots", halves), Stage("cut", write)), context, films, 2)
    assert (found.films, found.seconds, found.sampled, found.clips, found.kept) == (5, 1330, 150, 6, 3)
    assert found.bytes == pytest.approx(60_000 * 1330 / 150, rel=0.2) and set(found.work) == {"shots", "cut"}
    assert list(tmp_path.iterdir()) == []


def test_it_is_told_for_all_workers_together() -> None:
    text = Estimate(5, 1200.0, 180.0, 6, 3, {"shots": 240.0, "cut": 120.0}, 2e9, 2).text()
    assert "3.0 of 20.0 minutes in 5 films were worked on, 3 of 6 clips were kept" in text
    assert "| shots | 2.0 |" in text and "| all | 3.0 |" in text and "about 2 GB" in text


def test_the_sample_lies_evenly() -> None:
    assert [one.seconds for one in spaced([film(n) for n in (9, 1, 5, 7, 3)], 3)] == [1, 5, 9]
    assert [one.seconds for one in spaced([film(n) for n in (9, 1)], 3)] == [1, 9]
