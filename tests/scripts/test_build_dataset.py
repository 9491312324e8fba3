from __future__ import annotations

from pathlib import Path

import build_dataset
import pytest
from films import make_film

from shared.data.manifest import read_manifest
from shared.utils.errors import UserError

CONFIG = str(Path(__file__).parents[2] / "configs/data/demix_puppets.yaml")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "a.mp4"
    make_film(path, 5, 2)
    return path


@pytest.fixture
def words(film: Path, tmp_path: Path) -> list[str]:
    (tmp_path / "films").mkdir()
    (tmp_path / "films/a.mp4").write_bytes(film.read_bytes())
    folders = ["--input", str(tmp_path / "films"), "--output", str(tmp_path / "set"), "--config", CONFIG]
    return [*folders, "--workers", "1", "--set", "split.held_out=0"]  # a film or two may be held out, whole


def test_films_become_a_data_set(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words += ["--set", "shots.detector=none", "--set", "shots.most_seconds=2"]
    build_dataset.main([*words, "--dry-run"])
    said = capsys.readouterr().out
    assert "0.1 of 0.1 minutes in 1 films were worked on" in said and not (tmp_path / "set").exists()
    build_dataset.main([*words, "--stages", "shots,technical"])
    assert "| technical | 2 | 2 | 0 | 0 |" in capsys.readouterr().out and not (tmp_path / "set/manifest.jsonl").exists()
    build_dataset.main(words)
    assert capsys.readouterr().out.endswith(f"2 clips, {tmp_path / 'set/manifest.jsonl'}\n")
    assert len(read_manifest(tmp_path / "set")) == 2


def test_a_film_that_fails_is_listed_and_the_code_is_1(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "films/b.mp4").write_bytes(b"text")
    with pytest.raises(SystemExit) as stopped:
        build_dataset.main([*words, "--set", "shots.detector=none", "--stages", "shots"])
    assert stopped.value.code == 1
    said = capsys.readouterr().err
    assert "shots: " in said and "broken or not media" in said and "the data set is without them" in said


def test_a_stage_that_there_is_not_is_refused(words: list[str]) -> None:
    with pytest.raises(UserError, match="--stages shoots: give some of shots,"):
        build_dataset.main([*words, "--stages", "shoots"])


def test_licences_need_no_other_option(capsys: pytest.CaptureFixture[str]) -> None:
    build_dataset.main(["--licences"])
    assert "| shots.detector | transnetv2 | TransNet V2 |" in capsys.readouterr().out
