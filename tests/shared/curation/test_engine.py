from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from shared.curation.config import DemixConfig
from shared.curation.engine import Digests, Engine, stopping
from shared.curation.ledger import Ledger
from shared.curation.record import Context, Finding, Loads, Record, Stage
from shared.curation.sources import Source
from shared.utils.errors import UserError

#: Clips of a film by the seconds at which they begin, and what happens to them at stage "two".
FATES = {0: "keep", 1: "drop", 2: "error", 3: "die", 4: "hang", 5: "refuse", 6: "keep"}


def shots(record: Record, context: Context) -> Finding:
    spans = [[float(n), n + 1.0, "short" if n == 7 else "", ""] for n in range(8)]
    return Finding(figures={"spans": spans})


def one(record: Record, context: Context) -> Finding:
    _count(context, "one", record)
    return Finding(figures={"twice": 2 * record.start})


def two(record: Record, context: Context) -> Finding:
    _count(context, "two", record)
    assert record.figures == {"one": {"twice": 2 * record.start}}
    fate = FATES[int(record.start)]
    if fate == "error":
        raise ZeroDivisionError("no such number")
    if fate == "refuse":
        raise UserError("the file is broken; copy it again")
    if fate == "die":
        os._exit(9)
    if fate == "hang":
        time.sleep(60)
    return Finding("drop", "rule", "a rule") if fate == "drop" else Finding()


def three(record: Record, context: Context) -> Finding:
    _count(context, "three", record)
    return Finding()


def own(record: Record, context: Context) -> Finding:
    """Tell its process."""
    time.sleep(0.05)
    _count(context, str(os.getpid()), replace(record, start=0.0))
    return Finding()


def loading(processes: int, config: DemixConfig) -> Loads:
    return Loads((), processes)


STAGES = (Stage("shots", shots), Stage("one", one), Stage("two", two, reads=("one",)), Stage("three", three))


def _count(context: Context, stage: str, record: Record) -> None:
    with open(context.output / "calls", "a") as file:
        file.write(f"{stage} {record.start:g}\n")


def calls(folder: Path) -> list[str]:
    file = folder / "calls"
    return sorted(file.read_text().splitlines()) if file.exists() else []


@pytest.fixture
def source(tmp_path: Path) -> Source:
    (tmp_path / "film.mp4").write_bytes(b"a film")
    return Source(tmp_path / "film.mp4")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger") as ledger:
        yield ledger


def engine(source: Source, ledger: Ledger, workers: int = 2, retry: bool = False, **config: object) -> Engine:
    context = Context(DemixConfig.model_validate({"limit_seconds": 1.5} | config), source.path.parent, None)  # type: ignore[arg-type]
    made = Engine(STAGES, context, ledger, workers, retry)
    made.films_of([source], lambda path: 8.0)
    return made


def last(made: Engine) -> dict[int, tuple[str, str, str]]:
    found = {}
    for record, said in made.clips:
        *_, (stage, finding) = made.findings(record, said)
        found[int(record.start)] = (stage, finding.verdict, finding.cause)
    return found


def test_whatever_happens_to_a_clip_the_others_go_on(source: Source, ledger: Ledger) -> None:
    made = engine(source, ledger)
    made.run(stage.name for stage in STAGES)
    assert last(made) == {
        0: ("three", "keep", ""), 1: ("two", "drop", "rule"), 2: ("two", "fail", "error"),
        3: ("two", "fail", "crashed"), 4: ("two", "fail", "timeout"), 5: ("two", "fail", "refused"),
        6: ("three", "keep", ""), 7: ("shots", "drop", "short"),
    }  # fmt: skip
    reasons = [dict(made.findings(*clip))["two"].reason for clip in made.clips[2:6]]
    assert reasons[0] == "ZeroDivisionError: no such number" and reasons[3] == "the file is broken; copy it again"
    before = calls(source.path.parent)
    assert before.count("three 0") == 1 and "three 1" not in before and "one 7" not in before

    again = engine(source, ledger)
    again.run(stage.name for stage in STAGES)
    assert last(again) == last(made) and calls(source.path.parent) == before


def test_only_what_failed_is_tried_again(source: Source, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    engine(source, ledger).run(stage.name for stage in STAGES)
    before = calls(source.path.parent)
    for clip in (2, 3, 4, 5):
        monkeypatch.setitem(FATES, clip, "keep")
    made = engine(source, ledger, retry=True)
    made.run(stage.name for stage in STAGES)
    assert [last(made)[clip][:2] for clip in (2, 3, 4, 5)] == [("three", "keep")] * 4
    added = [f"{stage} {clip}" for stage in ("three", "two") for clip in (2, 3, 4, 5)]
    assert calls(source.path.parent) == sorted(before + added)


def test_some_stages_and_what_they_need(source: Source, ledger: Ledger) -> None:
    with pytest.raises(UserError, match="stage two reads one, which has not run with these settings; name it too"):
        engine(source, ledger).run(["shots", "two"])
    made = engine(source, ledger)
    made.run(["one"])
    assert {state[0] for state in last(made).values()} == {"one", "shots"}
    made.run(["three"])
    assert [state[0] for state in last(made).values()][:7] == ["three"] * 7


def test_a_stage_that_loads_a_model_has_as_many_processes_as_may(source: Source, ledger: Ledger) -> None:
    made = engine(source, ledger, workers=3)
    for processes, wanted in ((1, 1), (2, 2), (9, 3)):
        made.stages = [Stage("shots", shots), Stage(f"own{processes}", own, loads=partial(loading, processes))]
        made.digests = Digests(made.stages, made.context.config)
        made.run([stage.name for stage in made.stages])
        assert len(set(calls(source.path.parent))) == wanted
        (source.path.parent / "calls").unlink()


def test_a_digest_changes_with_what_a_stage_reads() -> None:
    stages = (
        Stage("shots", shots), Stage("technical", one), Stage("cut", two, reads=("technical",)), Stage("x", three),
    )  # fmt: skip
    first, config = Digests(stages, DemixConfig()), {"technical": {"least_side": 32}, "limit_seconds": 3}
    other = Digests(stages, DemixConfig.model_validate(config))
    assert [first[stage.name] == other[stage.name] for stage in stages] == [True, False, False, True]
    stages += (Stage("captions", one),)
    free = [
        Digests(stages, DemixConfig.model_validate({"captions": c}))["captions"] for c in ({"tries": 9}, {"side": 9})
    ]
    assert [Digests(stages, DemixConfig())["captions"] == one for one in free] == [True, False]
    newer = Digests([stage._replace(version=2) if stage.name == "shots" else stage for stage in stages], DemixConfig())
    assert [first[stage.name] == newer[stage.name] for stage in stages[:4]] == [False, True, True, True]


def test_films_are_known_by_their_content(source: Source, ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "copy.mp4").write_bytes(b"a film")
    (tmp_path / "other.mp4").write_bytes(b"another")
    made = engine(source, ledger)
    made.films_of([source, Source(tmp_path / "copy.mp4"), Source(tmp_path / "other.mp4", "CC0")], lambda path: 8.0)
    assert [film.source.name for film in made.films] == ["film.mp4", "other.mp4"]
    assert [film.licence for film in made.films] == ["", "CC0"]
    assert made.copies == [(tmp_path / "copy.mp4", source.path)]
    size = len(ledger)
    made.films_of([source], lambda path: 8.0)
    assert len(ledger) == size


def full(record: Record, context: Context) -> Finding:
    try:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "stem.wav")
    except OSError as error:
        raise UserError("stem.wav: cannot be written") from error


def test_a_full_disk_stops_all(source: Source, ledger: Ledger) -> None:
    made = engine(source, ledger)
    made.stages = (STAGES[0], Stage("one", full))
    with pytest.raises(UserError, match="No space left on device; make room, and run the same command again"):
        made.run(["shots", "one"])
    assert ledger.get(made.clips[0][0].key, "one", made.digests["one"]) is None
    assert stopping(ValueError("x")) == ""


def many(record: Record, context: Context) -> Finding:
    return Finding(figures={"spans": [[float(n), n + 1.0, "", ""] for n in range(40)]})


def slow(record: Record, context: Context) -> Finding:
    time.sleep(0.01)
    return Finding("drop" if record.start % 3 == 2 else "keep", "rule", figures={"twice": 2 * record.start})


MANY = (Stage("shots", many), Stage("one", slow), Stage("three", slow, reads=("one",)))


def run_many(source: Source, file: Path) -> None:
    with Ledger(file) as ledger:
        made = engine(source, ledger)
        made.stages, made.digests = MANY, Digests(MANY, made.context.config)
        made.run(stage.name for stage in MANY)


def lines(file: Path) -> list[tuple[str, str, str]]:
    found = [json.loads(line) for line in file.read_text().splitlines()]
    return sorted((line["key"], line["stage"], line.get("verdict", "")) for line in found)


def test_kills_at_random_moments_lose_nothing_and_do_nothing_twice(source: Source, tmp_path: Path) -> None:
    run_many(source, tmp_path / "whole")
    rng = np.random.default_rng(0)
    kills = 0
    for _ in range(200):
        process = multiprocessing.get_context("fork").Process(target=run_many, args=(source, tmp_path / "killed"))
        process.start()
        process.join(float(rng.uniform(0.02, 0.2)) * 1.15**kills)  # until a slow machine is done, too
        if process.exitcode is not None:
            break
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        kills += 1
    assert process.exitcode == 0 and kills >= 3
    assert lines(tmp_path / "killed") == lines(tmp_path / "whole")


def thousands(record: Record, context: Context) -> Finding:
    return Finding(figures={"spans": [[float(n), n + 1.0, "", ""] for n in range(10_000)]})


def long(record: Record, context: Context) -> Finding:
    return Finding(figures={"opening": "0" * 7000})


@pytest.mark.slow
def test_memory_is_flat_over_many_records(source: Source, tmp_path: Path) -> None:
    """Of a clip there is its span and an offset per finding, 0.7 kB, and no figures."""
    stages = (Stage("shots", thousands), Stage("one", long))
    with Ledger(tmp_path / "long") as ledger:
        made = engine(source, ledger, limit_seconds=600)
        made.stages, made.digests = stages, Digests(stages, made.context.config)
        made.run(["shots"])
        tracemalloc.start()
        made.run(["one"])
        held, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(ledger) == 2 + 10_000
    assert held < peak < 10_000_000 and (tmp_path / "long").stat().st_size > 70_000_000


def wav(record: Record, context: Context) -> Finding:
    (context.output / f"{record.start:g}.wav").write_text(f"{context.config.demix.most_l1:g}")
    _count(context, "demix", record)
    return Finding(figures={"files": [f"{record.start:g}.wav"]})


def test_files_are_those_of_the_settings_and_are_made_again_where_they_are_gone(
    source: Source, ledger: Ledger, tmp_path: Path
) -> None:
    def run(**demix: float) -> int:
        before = len(calls(tmp_path))
        made = engine(source, ledger, demix=demix)
        made.stages = (STAGES[0], Stage("demix", wav, writes=True))
        made.digests = Digests(made.stages, made.context.config)
        made.run(["shots", "demix"])
        assert {(tmp_path / f"{n}.wav").read_text() for n in range(7)} == {f"{demix['most_l1']:g}"}
        return len(calls(tmp_path)) - before

    assert [run(most_l1=0.5), run(most_l1=0.5), run(most_l1=0.25), run(most_l1=0.5)] == [7, 0, 7, 7]
    (tmp_path / "3.wav").unlink()
    assert run(most_l1=0.5) == 1
