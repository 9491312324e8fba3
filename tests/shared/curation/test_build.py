from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from films import Segment

from mtv.captions import compose
from mtv.demix import separated
from shared.curation.build import build, dry_run
from shared.curation.config import DemixConfig
from shared.curation.record import Tools
from shared.curation.sources import Source
from shared.data.manifest import read_manifest
from shared.utils.errors import UserError

PUPPETS = Path(__file__).parents[3] / "configs/data/demix_puppets.yaml"
TOOLS = Tools(separated, compose)


def test_a_film_becomes_a_manifest_that_training_reads(built: Path, film: tuple[Path, list[Segment]]) -> None:
    clips = read_manifest(built)
    shown = [segment for segment in film[1] if not segment.title]
    assert 1 <= len(clips) <= len(shown)
    for clip in clips:
        assert clip.video is not None and clip.video.parent == built / "clips" and clip.video.is_file()


@pytest.fixture
def copied(built: Path) -> Iterator[Path]:
    """Copy of the set beside it, from where the film has the same relative path."""
    folder = built.parent / "copy"
    shutil.copytree(built, folder)
    yield folder
    shutil.rmtree(folder)


def test_again_nothing_is_done_and_the_files_are_the_same(
    copied: Path, film: tuple[Path, list[Segment]], config: DemixConfig
) -> None:
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    build([Source(film[0], "CC0-1.0")], copied, config, TOOLS, 1)
    assert {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()} == before


def test_a_film_that_is_broken_is_told_and_the_others_are_done(
    film: tuple[Path, list[Segment]], tmp_path: Path
) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    config = DemixConfig.model_validate({"shots": {"detector": "none"}, "technical": {"least_side": 64}})
    sources = [Source(tmp_path / "broken.mp4"), Source(film[0])]
    report = build(sources, tmp_path / "set", config, TOOLS, 1, ["shots", "technical"])
    (failed,) = report.failed
    assert failed.record.source.name == "broken.mp4" and "broken or not media" in failed.finding.reason
    assert len(report.clips) == 1 + 2 and not (tmp_path / "set/manifest.jsonl").exists()
    lines = [json.loads(line) for line in (tmp_path / "set/report.jsonl").read_text().splitlines()]
    assert lines[0]["verdict"] == "fail" and {line["stage"] for line in lines[1:]} == {"technical"}


def test_a_set_that_is_held_out_whole_is_told(
    copied: Path, film: tuple[Path, list[Segment]], config: DemixConfig, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = (copied / "manifest.jsonl").read_bytes()
    whole = config.model_copy(update={"split": config.split.model_copy(update={"held_out": 1.0})})
    build([Source(film[0], "CC0-1.0")], copied, whole, TOOLS, 1)
    assert "none is left to train on; of few films set split.held_out: 0" in caplog.text
    assert (copied / "held_out.jsonl").read_bytes() == manifest and not (copied / "manifest.jsonl").read_bytes()
    build([Source(film[0], "CC0-1.0")], copied, config, TOOLS, 1)  # the films stay where they were
    assert (copied / "manifest.jsonl").read_bytes() == manifest


def test_a_folder_of_something_else_is_refused(
    film: tuple[Path, list[Segment]], config: DemixConfig, tmp_path: Path
) -> None:
    (tmp_path / "x").write_text("mine")
    with pytest.raises(UserError, match="holds other files; give a new or empty folder"):
        build([Source(film[0])], tmp_path, config, TOOLS, 1)


def test_a_dry_run_tells_and_leaves_nothing(film: tuple[Path, list[Segment]], tmp_path: Path) -> None:
    config = DemixConfig.load(PUPPETS, ["shots.detector=none", "technical.least_side=1000"])
    found = dry_run([Source(film[0])], config, TOOLS, 2)
    assert (found.films, found.clips, found.kept) == (1, 2, 0) and found.seconds == pytest.approx(12)
