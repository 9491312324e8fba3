"""scripts/check_data.py on clips of the stage, one of them broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.check_data import main
from scripts.make_puppets import main as make_puppets
from shared.data.manifest import read_manifest
from shared.utils.errors import UserError


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips, the second without a readable video."""
    folder = tmp_path_factory.mktemp("clips")
    make_puppets(["--clips", "3", "--output", str(folder), "--seed", "5", "--size", "32", "--workers", "1"])
    broken = read_manifest(folder)[1].video
    assert broken is not None
    broken.write_bytes(b"not a <video>")
    return folder


def test_a_line_per_clip_and_a_summary(
    stage: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.jsonl"
    main(["--manifest", str(stage), "--checkpoint", str(checkpoint), "--report", str(report), "--workers", "2"])
    found = [json.loads(line) for line in report.read_text().splitlines()]
    assert [line["id"] for line in found] == [clip.id for clip in read_manifest(stage)]
    assert [line["verdict"] == "refuse" for line in found] == [False, True, False]
    assert all(line["facts"]["seconds"] == 2.0 and "audio_latent_std" in line["facts"] for line in found[::2])
    assert {"speech_share", "fps_true", "audio_offset", "tracks", "clipping_share"} <= found[0]["facts"].keys()
    out = capsys.readouterr().out
    assert f"refuse: clip '{found[1]['id']}'" in out and "3 clips: " in out and "1 refuse" in out and "(voicing)" in out


def test_strict_and_html(stage: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    with pytest.raises(SystemExit) as stop:
        main(["--manifest", str(stage), "--report", str(report), "--workers", "1", "--strict"])
    assert stop.value.code == 1
    page = report.read_text()
    assert page.count("<tr class=") == 3 and page.index('class="refuse"') < page.index("</tr>", page.index("<tr class"))
    assert "broken or not media" in page and "<script" not in page


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--workers", "0"], "--workers 0: Input should be greater than or equal to 1"),
        (["--report", "a.txt"], "give FILE.html or FILE.jsonl"),
        (["--report", "nowhere/a.html"], "the folder does not exist"),
        (["--sigma", "1"], "--sigma 1: Input should be greater than 1"),
        (["--checkpoint", "nowhere"], "no such folder"),
    ],
)
def test_bad_arguments(stage: Path, more: list[str], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        main(["--manifest", str(stage), *more])
