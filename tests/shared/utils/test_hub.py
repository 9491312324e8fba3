"""Folders and hub ids: what is found, and one line where nothing is."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.utils.errors import UserError
from shared.utils.hub import NotFound, find_configs, find_files, hub_options, local_folder


def test_files_of_a_folder_come_in_the_order_asked_for(tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    for name in ("config.json", "vae/config.json"):
        (tmp_path / name).write_text(f'{{"name": "{name}"}}')
    names = ["vae/config.json", "absent.json", "config.json", "vae/config.json"]
    assert list(find_files(tmp_path, "codec", names, "a codec is needed")) == ["vae/config.json", "config.json"]
    assert find_configs(tmp_path, "codec", ("", "vae"), "")["vae"] == {"name": "vae/config.json"}
    assert local_folder(tmp_path) == tmp_path


def test_nothing_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no codec \(no a or b there\); a codec is needed"):
        find_files(tmp_path, "codec", ["a", "b"], "a codec is needed")
    with pytest.raises(NotFound, match="no/such/folder: no such folder; a codec is needed"):
        find_files("no/such/folder", "codec", ["a"], "a codec is needed")
    with pytest.raises(NotFound, match="the hub cannot be reached"):
        find_files("nobody/nothing", "codec", ["a"], "a codec is needed")
    for name in ("/no/such", "./no", "../no", "a/b/c", "a b", "x" * 5000, "https://example.org/model"):
        with pytest.raises(NotFound, match=": no such folder; a codec is needed"):
            find_files(name, "codec", ["a"], "a codec is needed")
        with pytest.raises(NotFound, match=": no such folder; a folder, or a hub id, is needed"):
            local_folder(name)
    (tmp_path / "file").touch()
    with pytest.raises(NotFound, match="file: a file, and no folder"):
        local_folder(tmp_path / "file")
    with pytest.raises(UserError, match="nobody/nothing: cannot be downloaded"):
        local_folder("nobody/nothing")


def test_a_damaged_configuration_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config.json is damaged|is damaged"):
        find_configs(tmp_path, "codec", [""], "")


def test_options_of_the_hub_are_taken_apart() -> None:
    options = {"revision": "main", "torch_dtype": "auto"}
    assert hub_options(options) == {"revision": "main"} and options == {"torch_dtype": "auto"}
