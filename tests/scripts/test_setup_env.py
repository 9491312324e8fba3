"""The torchaudio step: removes what a CPU torch cannot load, once, and leaves a CUDA torch alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import setup_env


@pytest.fixture
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libtorchaudio.so").touch()
    (tmp_path / "lib" / "__init__.py").touch()
    monkeypatch.setattr(setup_env, "compiled_libraries", lambda: sorted((tmp_path / "lib").glob("*.so")))
    return tmp_path / "lib"


def test_a_cpu_torch_gets_them_removed_once(libraries, monkeypatch, capsys) -> None:
    monkeypatch.setattr(setup_env, "torch_build", lambda: None)
    setup_env.main()
    assert [path.name for path in libraries.iterdir()] == ["__init__.py"]
    assert "removed the CUDA-only libtorchaudio.so" in capsys.readouterr().out
    setup_env.main()
    assert "nothing to do" in capsys.readouterr().out


def test_a_cuda_torch_keeps_them(libraries, monkeypatch, capsys) -> None:
    monkeypatch.setattr(setup_env, "torch_build", lambda: "CUDA 13.0")
    setup_env.main()
    assert (libraries / "libtorchaudio.so").exists()
    assert "left as it is (torch has CUDA 13.0)" in capsys.readouterr().out


def test_the_libraries_are_found_without_importing_torchaudio() -> None:
    assert all(path.parent.name == "lib" for path in setup_env.compiled_libraries())
