"""Weights are found, checked and named; what is missing is told with its cure."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from shared.perception import installed
from shared.perception.installed import WEIGHTS, Weights, find_weights, optional_module, sha256, weights_fingerprint
from shared.utils.errors import UserError


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of two files, not there yet."""
    files = tuple(Weights(f"toy/{name}", hashlib.sha256(name.encode()).hexdigest(), "MIT") for name in ("a", "b"))
    monkeypatch.setitem(WEIGHTS, "toy", files)  # type: ignore[arg-type]
    monkeypatch.setattr(installed, "folders", lambda: (tmp_path / "none", tmp_path))
    (tmp_path / "toy").mkdir()
    return tmp_path / "toy"


def test_the_face_models_are_in_the_repository() -> None:
    for name in ("face detector", "face landmarks"):
        file = find_weights(name)
        assert file.is_file() and (file.parent / "NOTICE").is_file() and (file.parent / "LICENSE").is_file()
        assert sha256(file) == weights_fingerprint(name)


def test_all_files_of_a_model_are_checked(model: Path) -> None:
    (model / "a").write_text("a")
    with pytest.raises(UserError, match=r"toy: its weights toy/b are not installed; run `make perception`"):
        find_weights("toy")
    (model / "b").write_text("changed")
    with pytest.raises(UserError, match="not the weights of toy that were tested"):
        find_weights("toy")
    (model / "b").write_text("b")
    assert find_weights("toy") == model / "a"


def test_fingerprints_are_of_what_is_used() -> None:
    prints = {weights_fingerprint(name) for name in WEIGHTS} | {weights_fingerprint("dnsmos", "yamnet")}
    assert len(prints) == len(WEIGHTS) + 1 and all(len(one) == 64 for one in prints)
    assert json.dumps(sorted(prints))


def test_a_missing_package_is_named_with_its_cure() -> None:
    assert optional_module("json", "json", "reading") is json
    with pytest.raises(UserError, match=r"hearing needs the package no-such, which is not installed; run `make perce"):
        optional_module("no_such_package.inner", "no-such", "hearing")


def test_a_package_that_lacks_something_itself_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_there.py").write_text("import something_else_entirely")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="something_else_entirely"):
        optional_module("half_there", "half-there", "hearing")
