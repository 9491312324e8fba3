"""The builder on made films of the toy world, whose truth is known: shots are measured in test_shots.py."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from films import FPS, RATE, Segment, make_film

from mtv.captions import compose
from mtv.demix import separated
from shared.curation.build import build, seconds_of
from shared.curation.config import DemixConfig
from shared.curation.engine import Engine
from shared.curation.ledger import LEDGER_NAME, Ledger
from shared.curation.record import Context, Finding, Record, Tools
from shared.curation.sources import Source
from shared.curation.stages import STAGES
from shared.curation.write import kept_clips
from shared.data.media import read_audio, read_video
from shared.data.media_write import write_video

TOOLS = Tools(separated, compose)
Found = tuple[Record, dict[str, Finding]]


def engine_of(films: list[Path], output: Path, config: DemixConfig, ledger: Ledger) -> Engine:
    engine = Engine(STAGES, Context(config, output, TOOLS), ledger, 1)
    engine.films_of([Source(film) for film in films], seconds_of)
    engine.run([])
    return engine


def findings(film: Path, output: Path, config: DemixConfig) -> list[Found]:
    """All that the ledger says of the clips of a film, dropped ones too."""
    with Ledger(output / LEDGER_NAME) as ledger:
        engine = engine_of([film], output, config, ledger)
        return [(record, dict(engine.findings(record, said))) for record, said in engine.clips]


def marks(segments: list[Segment], clips: list[Found]) -> dict[str, list[bool]]:
    """What is right, clip by clip: each is compared with the segment that it lies in."""
    right: dict[str, list[bool]] = defaultdict(list)
    for record, found in clips:
        middle = (record.start + record.end) / 2 * FPS
        segment = next(one for one in segments if one.first <= middle < one.after)
        if "technical" not in found:  # too short a shot: nothing else was asked of it
            assert found["shots"].cause
            continue
        silent = found["technical"].cause == "silent"
        right["silence"].append(silent == segment.title)
        if "people" in found:
            people = found["people"].figures["people"]
            right["people"].append([one["place"][0] for one in people] == pytest.approx(segment.faces, abs=1e-3))
        if "speech" in found:
            right["voice-over"].append((found["speech"].cause == "voice-over") == segment.voice_over)
            if not segment.voice_over:
                right["speaker"].append(found["speech"].figures["speaking"] == segment.talks)
        if "subsets" in found:
            right["subsets"].append(found["subsets"].figures["subsets"] == segment.subsets)
    return right


def test_a_short_film_is_understood(film: tuple[Path, list[Segment]], built: Path, config: DemixConfig) -> None:
    right = marks(film[1], findings(film[0], built, config))
    assert set(right) == {"silence", "people", "voice-over", "speaker", "subsets"}
    assert {name: all(found) for name, found in right.items()} == dict.fromkeys(right, True)


@pytest.mark.slow
def test_long_films_are_understood(tmp_path: Path, config: DemixConfig) -> None:
    pytest.importorskip("scenedetect")
    total: dict[str, list[bool]] = defaultdict(list)
    for seed in (21, 22, 23):
        film, output = tmp_path / f"{seed}.mp4", tmp_path / f"{seed}"
        segments = make_film(film, seed, 40)
        build([Source(film)], output, config, TOOLS, 2)
        for name, found in marks(segments, findings(film, output, config)).items():
            total[name] += found
    assert min(len(found) for found in total.values()) >= 40
    share = {name: round(float(np.mean(found)), 3) for name, found in total.items()}
    assert {name: value for name, value in share.items() if value < 0.95} == {}


def test_films_that_share_a_clip_are_on_one_side(
    film: tuple[Path, list[Segment]], config: DemixConfig, tmp_path: Path
) -> None:
    """The first segment, and the same again, quieter, as films of their own; and beside them the second one."""
    for name, number, level in (("true.mp4", 0, 1.0), ("copy.mp4", 0, 0.5), ("other.mp4", 1, 1.0)):
        span = film[1][number].first / FPS, film[1][number].after / FPS
        frames, sound = read_video(film[0], FPS, None, *span), read_audio(film[0], RATE, True, *span)
        write_video(tmp_path / name, frames, FPS, sound * level, RATE)
    films = [tmp_path / name for name in ("copy.mp4", "true.mp4", "other.mp4")]
    changes = {"shots": {"detector": "none", "least_seconds": 1}, "split": {"held_out": 0.5}}
    settings = DemixConfig.model_validate(config.model_dump() | changes | {"speech": config.speech.model_dump()})
    build([Source(path) for path in films], tmp_path / "set", settings, TOOLS, 1)
    sides = set()
    for seed in range(8):
        again = settings.model_copy(update={"seed": seed})
        with Ledger(tmp_path / "set" / LEDGER_NAME) as ledger:
            kept = kept_clips(engine_of(films, tmp_path / "set", again, ledger))
        by_film = {one.record.source.name: one.is_held_out for one in kept}
        assert by_film["copy.mp4"] == by_film["true.mp4"]
        sides.add((by_film["copy.mp4"], by_film["other.mp4"]))
    assert len(sides) >= 3
