"""The one reader of text: where a line ends, what is refused, and where it stands."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from shared.data.manifest import Clip, Problem, manifest_entries, read_manifest, write_manifest
from shared.utils.errors import UserError
from shared.utils.text_files import is_file, parse_json, parse_yaml, read_text, split_lines

#: Characters at which `str.splitlines` would end a line, and this project does not.
INNER = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\x1dh\x1ei"


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_end_in_two_ways_and_no_other(tmp_path: Path, mark: bytes, end: str) -> None:
    file = tmp_path / "x.txt"
    file.write_bytes(mark + end.join([INNER, "", "ß", ""]).encode())
    assert split_lines(read_text(file), "x") == [INNER, "", "ß"]
    file.write_bytes(mark + end.join([INNER, "last"]).encode())
    assert split_lines(read_text(file), "x") == [INNER, "last"]
    assert split_lines("", "x") == []


def test_a_lone_carriage_return_ends_no_line_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    assert split_lines("one\ntwo\rtwo\r\n", "old.txt") == ["one", "two\rtwo"]
    assert "old.txt:2: holds a carriage return that ends no line" in caplog.text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a\nb\nä".encode("latin-1"), "x.txt:3: byte 0xe4 is not UTF-8"),
        (b"\xef\xbb\xbfa\r\nb\xff", "x.txt:2: byte 0xff is not UTF-8"),
        (b"a\n\xed\xa0\x80", "x.txt:2: byte 0xed is not UTF-8"),  # half of a character, encoded
        ("a".encode("utf-16"), "it is UTF-16 and not UTF-8"),
        (b"\xfe\xff\0a", "it is UTF-16 and not UTF-8"),
        ("a".encode("utf-32"), "it is UTF-32 and not UTF-8"),
        (b"\x1f\x8b\x08\0", "it is gzip and not UTF-8"),
        ("one\ntwo".encode("utf-16-le"), "x.txt:1: holds a NUL character"),
        (b"one\ntw\0o", "x.txt:2: holds a NUL character"),
        (b"a" * 2000, "has .* MiB; at most 0.0009766 MiB of text are read"),
    ],
)
def test_what_is_no_utf8_is_named_with_its_line(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "x.txt").write_bytes(content)
    with pytest.raises(UserError, match=said):
        read_text(tmp_path / "x.txt", most=1024)


def test_what_is_no_file_of_text(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    long = tmp_path / ("x" * 300)
    cases = ((tmp_path, "a folder"), (tmp_path / "pipe", "no file"), (tmp_path / "gone", "no such file"))
    for path, said in (*cases, (long, "File name too long"), (Path("a\0b"), "null byte")):
        with pytest.raises(UserError, match=said):
            read_text(path)
    for path in (long, tmp_path.joinpath(*["deep"] * 2000)):
        with pytest.raises(UserError, match="File name too long"):
            is_file(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "f:17: not JSON"),
        ('{\n"a":\n}', "f:19: not JSON"),
        ('{"a": 1, "a": 2}', "f:17: .*'a' stands twice"),
        ('{"a": NaN}', "f:17: .*NaN is no number"),
        ("[-Infinity]", "f:17: .*-Infinity is no number"),
        ('["\\ud800"]', r"f:17: holds half of a character, \\ud800"),
        ('{"\\udc00x": 1}', r"f:17: holds half of a character, \\udc00"),
        ('["\\u0000"]', "f:17: holds a NUL"),
        ("[" * 100_000, "f:17: .*64 levels deep"),
        ("[" * 70 + "]" * 70, "f:17: .*64 levels deep"),
        ("9" * 5000, "f:17: .*4300 digits"),
    ],
)
def test_json_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse_json(text, "f", 17)


MERGED = "a: &a {k: 1, l: 2}\nb: &b {<<: *a, k: 3}\nc: {<<: *b}\n"
LAUGHS = "a: &l0 [x, x]\n" + "".join(f"b{i}: &l{i + 1} [{', '.join([f'*l{i}'] * 9)}]\n" for i in range(9))
MERGES = "a: &l0 {k: 1, l: 2}\n" + "".join(f"b{i}: &l{i + 1} {{<<: [{', '.join([f'*l{i}'] * 9)}]}}\n" for i in range(9))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3", "f: not valid yaml .the key a stands twice, line 3"),
        ("a: 1\nb: [", "f: not valid yaml .*line 2"),
        ("a: 1\nb: \x0b", r"f: not valid yaml .a character \\x0b, line 2"),
        ("x: &x [*x]", "64 levels deep"),
        ("[" * 5000, "64 levels deep"),
        ('a: "\\ud800"', r"half of a character, \\ud800"),
        ("a: " + "9" * 5000, "4300 digits"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        (LAUGHS, "holds more than 1000000 values"),
        (MERGES, "merged keys multiply"),
        ("a" * (2**20 + 1), "at most 1048576 of YAML are read"),
    ],
)
def test_yaml_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse_yaml(text, "f")


def test_yaml_may_merge_keys() -> None:
    assert parse_yaml(MERGED, "f") == {"a": {"k": 1, "l": 2}, "b": {"k": 3, "l": 2}, "c": {"k": 3, "l": 2}}


def test_captions_survive_the_manifest_that_we_write(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    texts = [INNER, "two\nlines", "old\rend", "both\r\n", "\U0001f514 ß \ufeff", '"\\']
    clips = [Clip(id=f"c{i} {text}", video=tmp_path / "a.mp4", caption=text) for i, text in enumerate(texts)]
    write_manifest(tmp_path / "manifest.jsonl", clips)
    assert read_manifest(tmp_path) == clips


def test_a_manifest_names_the_line_of_every_fault(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    good = {"id": "a", "video": "a.mp4", "caption": ""}
    lines = [
        json.dumps(good),
        "[" * 100_000,
        '{"id": "b", "id": "b", "video": "a.mp4", "caption": ""}',
        '{"id": "b", "video": "a.mp4", "caption": "\\ud83d"}',
        json.dumps(good | {"id": "c", "video": "x" * 5000}),
        '{"id": "d", "video": "a\\u0000.mp4", "caption": ""}',
        '{"id": "e", "video": "a.mp4", "caption": "", "start": Infinity}',
        json.dumps(good | {"id": "x" * 10_000, "caption": 1}),
    ]
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines))
    first, *others = manifest_entries(tmp_path)
    assert isinstance(first, Clip) and len(others) == 7
    for number, entry in enumerate(others, start=2):
        assert isinstance(entry, Problem) and f"manifest.jsonl:{number}: " in entry.message
        assert len(entry.message) < 600 and "\0" not in entry.message


def test_links_that_lead_to_one_another_are_no_file(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(UserError, match=r"a: Too many levels of symbolic links; give the path of a file"):
        is_file(tmp_path / "a")
    (tmp_path / "c").symlink_to("gone")
    assert not is_file(tmp_path / "c") and not is_file(Path(__file__) / "below")
