from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from films import FPS, Segment, cuts, fades, make_film

from shared.curation.config import DemixConfig
from shared.curation.record import Context, Record
from shared.curation.shots import edges_of, find_shots, records_of
from shared.data.media_write import write_video
from shared.utils.errors import UserError


def found(path: Path, config: DemixConfig, seconds: float = 1000.0) -> dict[str, Any]:
    record = Record("k", path, "k", 0.0, seconds)
    return dict(find_shots(record, Context(config, path.parent, None)).figures)  # type: ignore[arg-type]


def f1(right: int, said: int, true: int) -> float:
    return 2 * right / (said + true)


def scores(figures: dict[str, Any], segments: list[Segment]) -> tuple[float, float]:
    """F1 of the cuts, to the frame, and of the fades: dark at a time when the film fades."""
    true = cuts(segments)
    dark = [(round(first * FPS), round(last * FPS)) for first, last in figures["fades"]]
    met = sum(any(first >= start - 1 and last <= end + 1 for first, last in dark) for start, end in fades(segments))
    exact = f1(len({*true} & {*figures["cuts"]}), len(figures["cuts"]), len(true))
    return exact, f1(met, len(dark), len(fades(segments)))


def test_cuts_are_found_to_the_frame_and_nothing_of_a_fade_is_kept(
    film: tuple[Path, list[Segment]], config: DemixConfig
) -> None:
    pytest.importorskip("scenedetect")
    path, segments = film
    figures = found(path, config)
    assert scores(figures, segments) == (1.0, 1.0)
    spans = [(round(start * FPS), round(end * FPS)) for start, end, _, _ in figures["spans"]]
    for (start, end), segment in zip(spans, segments, strict=True):
        assert segment.first <= start <= segment.first + 1 and segment.after - 1 <= end <= segment.after


@pytest.mark.slow
def test_shots_of_long_films(tmp_path: Path, config: DemixConfig) -> None:
    pytest.importorskip("scenedetect")
    exact, dark = [], []
    for seed in (11, 12, 13):
        segments = make_film(tmp_path / f"{seed}.mp4", seed, 40)
        one, other = scores(found(tmp_path / f"{seed}.mp4", config), segments)
        exact.append(one)
        dark.append(other)
    assert np.mean(exact) >= 0.95 and np.mean(dark) >= 0.8


@pytest.fixture
def grey(tmp_path: Path) -> Path:
    """5 s of one shot."""
    write_video(tmp_path / "grey.mp4", np.full((120, 32, 32, 3), 90, np.uint8), 24)
    return tmp_path / "grey.mp4"


def test_without_a_detector_a_file_is_a_shot_and_long_ones_are_divided(grey: Path) -> None:
    config = DemixConfig.model_validate({"shots": {"detector": "none", "least_seconds": 1, "most_seconds": 2}})
    figures = found(grey, config)
    assert [round(24 * end) for _, end, _, _ in figures["spans"]] == [40, 80, 120]
    film = Record("k", grey, "k", 0.0, 5.0, "CC0")
    records = [record for record, said in records_of(film, figures) if said.verdict == "keep"]
    assert len({record.key for record in records}) == 3 and {record.licence for record in records} == {"CC0"}


def test_a_shot_that_is_too_short_is_told(grey: Path) -> None:
    config = DemixConfig.model_validate({"shots": {"detector": "none", "least_seconds": 5.5, "most_seconds": 11}})
    ((record, said),) = records_of(Record("k", grey, "k", 0.0, 5.0), found(grey, config))
    assert (said.verdict, said.cause) == ("drop", "short") and record.seconds == pytest.approx(5.0)
    assert said.reason == "the shot lasts 5.00 s; at least 5.5 s are needed"


def test_a_part_of_a_film_is_looked_at_alone(grey: Path) -> None:
    config = DemixConfig.model_validate({"shots": {"detector": "none", "least_seconds": 1}})
    assert found(grey, config, seconds=3.0)["frames"] == 72


def test_without_the_package_it_says_what_to_install(grey: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    with pytest.raises(
        UserError, match=r"scenedetect-headless, which is not installed; run pip install .*\[curation\]"
    ):
        found(grey, DemixConfig())


def test_a_transition_ends_a_shot_and_what_is_of_both_shots_is_of_none() -> None:
    assert edges_of([0.1, 0.9, 0.1, 0.1, 0.8, 0.9, 0.7, 0.1], 0.5) == [(2, 2), (5, 7)]
    assert edges_of([0.9, 0.1], 0.5) == [(1, 1)] and edges_of([0.1, 0.2], 0.5) == []


class Bright:
    """In place of TransNet V2: a transition after each frame that is bright."""

    def take(self, picture: np.ndarray) -> list[float]:
        return [float(picture.mean() > 100)]

    def rest(self) -> list[float]:
        return []


def test_a_learned_detector_finds_cuts_and_dissolves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("scenedetect")
    frames = np.full((96, 32, 32, 3), 60, np.uint8)
    frames[[23, *range(59, 64)]] = 200
    write_video(tmp_path / "film.mp4", frames, 24)
    monkeypatch.setattr("shared.curation.shots._transitions", Bright)
    config = DemixConfig.model_validate({"shots": {"detector": "transnetv2", "least_seconds": 0.5}})
    figures = found(tmp_path / "film.mp4", config)
    spans = [(round(24 * start), round(24 * end)) for start, end, _, _ in figures["spans"]]
    assert figures["cuts"] == [24] and spans == [(0, 24), (24, 60), (64, 96)]
    assert [[round(24 * time) for time in times] for times in figures["dissolves"]] == [[60, 64]]
