"""Files: written in one go, read with one clear error; blocks of a document renewed."""

from __future__ import annotations

import errno
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from shared.utils import files
from shared.utils.errors import UserError
from shared.utils.files import (
    check_place,
    read_json,
    replaced,
    replacing,
    replacing_folder,
    sweep,
    writable_folder,
    write_atomically,
    write_json,
)
from shared.utils.locks import locked, remove_left_over

ROOT = Path(__file__).parents[3]


def test_json_comes_back_and_lists_of_numbers_stay_on_a_line(tmp_path: Path) -> None:
    content = {"a": [1, 2.5, 3], "ä": {"b": ["x", [1, 2]], "c": None}}
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == content and "[ 1, 2.5, 3 ]" in (tmp_path / "a.json").read_text()
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert read_json(tmp_path / "a.json") == content and len(list(tmp_path.iterdir())) == 1


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    with replacing(file) as part:
        part.write_bytes(b"old")
        assert not file.exists()
    with pytest.raises(RuntimeError), replacing(file) as part:
        part.write_bytes(b"half of the n")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"] and file.read_bytes() == b"old"


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), replacing_folder(tmp_path / "out") as folder:
        (folder / "x").write_text("half")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    for text in ("old", "new"):
        with replacing_folder(tmp_path / "deep" / "out") as folder:
            (folder / text).write_text("all")
            assert not (tmp_path / "deep" / "out" / text).exists()
        assert [path.name for path in (tmp_path / "deep" / "out").iterdir()] == [text]
    with pytest.raises(RuntimeError), replacing_folder(tmp_path / "deep" / "out"):
        raise RuntimeError
    assert [path.name for path in (tmp_path / "deep").rglob("*")] == ["out", "new"]


def test_the_last_whole_folder_outlives_a_kill_between_two_renames(tmp_path: Path) -> None:
    """`.NAME.old` is then all there is: a save that fails must leave it."""
    (tmp_path / ".out.old").mkdir()
    with pytest.raises(RuntimeError), replacing_folder(tmp_path / "out"):
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == [".out.old"]
    with replacing_folder(tmp_path / "out"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_process_left_half_written_goes_and_what_is_in_use_stays(tmp_path: Path) -> None:
    """Only what has a name of our pattern, and only what no process holds."""
    for name in (".old.mp4.4.5.part", ".begun.mp4.4.5.part"):
        (tmp_path / name).mkdir()
    (tmp_path / ".old.mp4.4.5.part" / "old.mp4").write_text("half")
    (tmp_path / ".before.mp4.4.5.part").write_text("a file, as earlier versions made it")
    (tmp_path / ".mine.part").write_text("a user's")
    code = (
        "from shared.utils.files import replacing; import os; from pathlib import Path; block = replacing(Path('b')); "
    )
    code += "block.__enter__().write_text('half'); print(flush=True); os.read(0, 1)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        write_atomically(tmp_path / "a", "whole")
        names = sorted(path.name for path in tmp_path.iterdir())
        assert names[1:] == [".mine.part", "a"] and names[0].startswith(".b.")
        other.kill()
    remove_left_over(tmp_path / names[0])
    assert not (tmp_path / names[0]).exists()


def test_a_library_may_rename_a_file_of_its_own_over_what_it_writes(tmp_path: Path) -> None:
    """safetensors does: then nothing may take the new one for a leftover before it has its name."""
    with replacing(tmp_path / "a.safetensors") as part:
        save_file({"x": torch.ones(3)}, part)
        process = multiprocessing.get_context("fork").Process(target=sweep, args=(tmp_path,))
        files._swept.clear()
        process.start()
        process.join()
    assert process.exitcode == 0 and [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_the_lock_of_a_killed_process_goes_and_no_other(tmp_path: Path) -> None:
    texts = {".codecs.lock": "process 7 on host", ".empty.lock": "", ".user.lock": "a user's"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    with locked(tmp_path / ".held.lock", "writes"):
        sweep(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == [".held.lock", ".user.lock"]


def test_two_that_write_one_folder_are_told_of_each_other(tmp_path: Path) -> None:
    with (
        replacing_folder(tmp_path / "out"),
        pytest.raises(UserError, match=r"process \d+ on .* writes out; let it end"),
        replacing_folder(tmp_path / "out"),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_place_that_cannot_be_written_is_refused_at_once(kind, tmp_path: Path, monkeypatch) -> None:
    check_place("--output", tmp_path / "new/deep/place", kind)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"--output .*file/deep: .* is no folder that can be written to"):
        check_place("--output", tmp_path / "file/deep", kind)
    with pytest.raises(UserError, match=r"--output .*: is a (file; give a folder|folder; give the name of a file)"):
        check_place("--output", tmp_path / "file" if kind == "folder" else tmp_path, kind)
    with pytest.raises(UserError, match=r"--output .*: cannot be written there \(.*File name too long; give a shorter"):
        check_place("--output", tmp_path / ("x" * 300), kind)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(full))
    with pytest.raises(UserError, match=r"--output .*: cannot be written there \(No space left on device; make room"):
        check_place("--output", tmp_path / "out", kind)


@pytest.mark.parametrize(
    ("text", "said"), [("{", "is damaged"), ("[1]", "holds no JSON object"), (None, "cannot be read \\(No such")]
)
def test_what_is_no_object_of_json_is_refused_by_name(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "a.json"
    if text is not None:
        write_atomically(file, text)
    with pytest.raises(UserError, match=said) as error:
        read_json(file)
    assert str(file) in str(error.value)


def test_a_block_is_put_between_its_marks() -> None:
    text = "a\n<!-- x:begin -->\nold\n<!-- x:end -->\nb\n"
    assert replaced(text, "x", "new\n", Path("f.md")) == text.replace("old", "new")
    with pytest.raises(UserError, match=r"f\.md: has no marks <!-- y:begin --> and <!-- y:end -->"):
        replaced(text, "y", "", Path("f.md"))


def test_a_folder_to_write_to_is_made_and_a_file_in_its_place_refused(tmp_path: Path) -> None:
    writable_folder("--output", tmp_path / "new" / "out")
    assert (tmp_path / "new" / "out").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--output .*file: .*give a folder that can be written to"):
        writable_folder("--output", tmp_path / "file")
