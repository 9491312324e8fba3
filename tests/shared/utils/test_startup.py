"""Modules that wait for the first name that is asked of them."""

import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.utils import startup
from shared.utils.startup import quick_imports

#: What checkpoints and adapters may need, each of a library's module that no other line here imports.
LIBRARIES = """
from diffusers import AutoencoderKLCogVideoX, AutoencoderKLLTX2Audio, AutoencoderKLWan, AutoencoderOobleck
from diffusers import CogVideoXTransformer3DModel, WanTransformer3DModel
from diffusers import CogVideoXDPMScheduler, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from diffusers.hooks import apply_group_offloading
from diffusers.pipelines.ltx2 import LTX2Vocoder
from peft import LoraConfig
from scipy.stats import norm
from transformers import ASTModel, AutoTokenizer, T5EncoderModel, UMT5EncoderModel, Wav2Vec2Model
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package "waiting", with a module "waiting.part", of which the first is deferred; it prints when it runs."""
    folder = tmp_path / "waiting"
    folder.mkdir()
    (folder / "__init__.py").write_text("print('runs')\nVALUE = 7\nfrom .part import PART\n")
    (folder / "part.py").write_text("PART = 8\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(startup, "DEFERRED", ("waiting",))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "waiting"]:
        del sys.modules[name]


def test_a_module_runs_when_it_is_asked_for_a_name(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with quick_imports():
        import waiting.part  # type: ignore[import-not-found]
    assert waiting.part.PART == 8 and waiting.__file__ == str(package / "__init__.py")
    assert capsys.readouterr().out == ""
    assert waiting.VALUE == 7 and waiting.VALUE == waiting.PART - 1
    assert capsys.readouterr().out == "runs\n"
    assert waiting.__spec__.loader is waiting.__loader__ and waiting.__loader__.path == waiting.__file__
    with pytest.raises(AttributeError, match="module 'waiting' has no attribute 'other'"):
        _ = waiting.other
    assert capsys.readouterr().out == ""


def test_outside_it_modules_run_as_ever(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with quick_imports():
        pass
    import waiting.part

    assert waiting and capsys.readouterr().out == "runs\n"


def test_an_error_is_told_to_everyone_who_asks(package: Path) -> None:
    (package / "__init__.py").write_text("raise ImportError('a library is missing')\n")
    with quick_imports():
        import waiting.part
    for _ in range(2):
        with pytest.raises(ImportError, match="a library is missing"):
            _ = waiting.VALUE
    (package / "__init__.py").write_text("VALUE = 9  # installed meanwhile\n")
    assert waiting.VALUE == 9


def test_what_a_module_puts_in_its_place_is_asked(package: Path) -> None:
    """As transformers' packages do."""
    text = "import sys, types\nsys.modules[__name__] = types.SimpleNamespace(VALUE=1, LATER=2)\n"
    (package / "__init__.py").write_text(text)
    with quick_imports():
        import waiting.part
    assert (waiting.VALUE, waiting.LATER) == (1, 2)


def test_the_collector_is_as_before(package: Path) -> None:
    assert gc.isenabled()
    with quick_imports():
        assert not gc.isenabled()
        with quick_imports():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled() and not any(isinstance(finder, startup._Finder) for finder in sys.meta_path)


@pytest.mark.slow  # each library anew
@pytest.mark.parametrize("line", LIBRARIES.strip().splitlines())
def test_the_libraries_bear_it(line: str) -> None:
    """Each alone, since what another has imported already hides a circle."""
    code = f"from shared.utils.startup import quick_imports\nwith quick_imports():\n    {line}\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
