"""The torchaudio step: removes what a CPU torch cannot load, once, and leaves a CUDA torch alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from shared.utils import environment
from shared.utils.environment import untested


@pytest.fixture
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libtorchaudio.so").touch()
    (tmp_path / "lib" / "__init__.py").touch()
    monkeypatch.setattr(environment, "compiled_libraries", lambda: sorted((tmp_path / "lib").glob("*.so")))
    return tmp_path / "lib"


def test_a_cpu_torch_gets_them_removed_once(libraries, monkeypatch, capsys) -> None:
    monkeypatch.setattr(environment, "torch_build", lambda: None)
    environment.main()
    assert [path.name for path in libraries.iterdir()] == ["__init__.py"]
    assert "removed the CUDA-only libtorchaudio.so" in capsys.readouterr().out
    environment.main()
    assert "nothing to do" in capsys.readouterr().out


def test_a_cuda_torch_keeps_them(libraries, monkeypatch, capsys) -> None:
    monkeypatch.setattr(environment, "torch_build", lambda: "CUDA 13.0")
    environment.main()
    assert (libraries / "libtorchaudio.so").exists()
    assert "left as it is (torch has CUDA 13.0)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("can", "said"),
    [({"sse": True}, False), ({"sse": True, "amx_bf16": True}, True), ({"sse": True, "avx512_bf16": True}, True),
     ({"neon": True}, True)],
)  # fmt: skip
def test_processors_that_multiply_in_bf16_are_told(can, said, monkeypatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: can, raising=False)
    assert environment.computes_bf16() is said
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # as torch 2.11 is
    assert environment.computes_bf16()


def test_the_libraries_are_found_without_importing_torchaudio() -> None:
    assert all(path.parent.name == "lib" for path in environment.compiled_libraries())


@pytest.mark.parametrize(
    ("torch", "torchaudio", "tested"),
    [("2.13.0+cpu", "2.11.0", True), ("2.11.1+cu130", "2.11.0", True), ("2.14.0", "2.11.0", False),
     ("2.10.2", "2.11.0", False), ("2.13.0", "2.12.0+cu130", False)],
)  # fmt: skip
def test_a_pair_that_was_not_tried_is_told(torch: str, torchaudio: str, tested: bool) -> None:
    said = untested({"torch": torch, "torchaudio": torchaudio})
    assert (not said) == tested
    if said:
        assert said.startswith(f"torch {torch} with torchaudio {torchaudio}: ") and "torch 2.11 to 2.13" in said


def test_what_is_set_up_here_is_left_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    environment.main()
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("torchaudio: ") and ("nothing to do" in first or "left as it is" in first)
    assert "torchaudio 2." in second and "torch 2." in second
