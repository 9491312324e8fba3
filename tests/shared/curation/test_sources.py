from __future__ import annotations

from pathlib import Path

import pytest

from shared.curation.sources import Source, read_sources
from shared.utils.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.mp4", "a.MKV", "deep/c.webm", ".hidden/d.mp4", "._e.mp4", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def test_a_folder_is_read_with_all_below_it_in_order(folder: Path) -> None:
    assert [source.path.name for source in read_sources(folder)] == ["a.MKV", "b.mp4", "c.webm"]


def test_lists_are_relative_to_themselves_and_carry_licences(folder: Path) -> None:
    (folder / "list.txt").write_text("b.mp4\n\ndeep/c.webm\n")
    assert read_sources(folder / "list.txt") == [Source(folder / "b.mp4"), Source(folder / "deep/c.webm")]
    (folder / "list.jsonl").write_text('{"video": "b.mp4", "licence": "CC-BY-4.0"}\n{"video": "a.MKV"}\n')
    assert [source.licence for source in read_sources(folder / "list.jsonl")] == ["CC-BY-4.0", ""]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("l.txt", "gone.mp4", r"l\.txt:1: gone\.mp4 does not exist; paths are relative to the list"),
        ("l.txt", "\n", "names no film"),
        ("l.jsonl", '{"video": "b.mp4"}\n{"file": "b.mp4"}', r"l\.jsonl:2: video: Field required; the fields are"),
        ("l.jsonl", "[]", r"l\.jsonl:1: .*; the fields are video, licence"),
        ("l.csv", "b.mp4", "is no list"),
    ],
)
def test_a_list_that_is_wrong_is_refused_by_its_line(folder: Path, name: str, text: str, said: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(UserError, match=said):
        read_sources(folder / name)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no film"):
        read_sources(tmp_path)
    with pytest.raises(UserError, match="no such folder or list"):
        read_sources(tmp_path / "gone")
