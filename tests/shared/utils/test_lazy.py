"""Names of a package come when they are asked for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from shared.utils.lazy import lazy


def test_a_name_is_imported_when_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "module_with_a_name.py").write_text("name = 7")
    (tmp_path / "module_of_torchaudio.py").write_text("raise OSError('libtorchaudio.so: no such file')")
    (tmp_path / "module_that_fails.py").write_text("raise OSError('disk full')")
    names = {"name": "module_with_a_name", "sound": "module_of_torchaudio", "disk": "module_that_fails"}
    get = lazy("package", names)
    assert "module_with_a_name" not in sys.modules
    assert get("name") == 7
    with pytest.raises(AttributeError, match="module 'package' has no attribute 'other'"):
        get("other")
    with pytest.raises(ImportError, match=r"run: python -m shared\.utils\.environment"):
        get("sound")
    with pytest.raises(OSError, match="disk full"):
        get("disk")
