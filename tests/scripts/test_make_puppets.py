from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from make_puppets import main

from shared.data.manifest import read_manifest
from shared.utils.errors import UserError, run_main

ROOT = Path(__file__).parents[2]


def make(out: Path, *more: str) -> None:
    main(["--clips", "2", "--output", str(out), "--seed", "1", "--workers", "1", *more])


def test_running_again_makes_the_same_files(tmp_path: Path) -> None:
    def digest() -> dict[str, str]:
        files = sorted(p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".mp4")
        return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}

    make(tmp_path)
    first = digest()
    main(["--clips", "2", "--output", str(tmp_path), "--seed", "1", "--workers", "2"])
    assert digest() == first and len(first) == 2 * 4 + 2


@pytest.mark.parametrize(
    "bad",
    [
        ["--clips", "0"],
        ["--level", "hard"],
        ["--size", "sixty"],
        ["--size", "63"],
        ["--workers", "0"],
        ["--conflict", "2"],
        ["--style", "paper"],
    ],
)
def test_bad_values_write_nothing(tmp_path: Path, bad: list[str]) -> None:
    with pytest.raises(UserError, match=bad[1]):
        make(tmp_path / "clips", *bad)
    assert not (tmp_path / "clips").exists()


def test_another_style_is_another_set_of_clips(tmp_path: Path) -> None:
    make(tmp_path, "--style", "cutout")
    clips = read_manifest(tmp_path)
    assert [clip.id for clip in clips] == ["cutout-simple-1-000000", "cutout-simple-1-000001"]
    with pytest.raises(UserError, match="other settings"):
        make(tmp_path)
    with pytest.raises(UserError, match="level 'shows' is of the stage alone"):
        make(tmp_path / "shows", "--level", "shows", "--style", "cutout")


def test_other_content_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="other files"):
        make(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_another_seed_needs_another_folder(tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(UserError, match="other settings"):
        main(["--clips", "1", "--output", str(tmp_path), "--seed", "2"])
    assert len(read_manifest(tmp_path)) == 2


def test_an_error_is_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        run_main(lambda: make(tmp_path, "--clips", "-1"))
    assert exit.value.code == 2 and capsys.readouterr().err == (
        "error: --clips -1: Input should be greater than or equal to 1 (see --help)\n"
    )
