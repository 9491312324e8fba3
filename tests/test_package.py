"""The packages as a user has them: light to import, typed, with the shipped checkpoint, and clear when shadowed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import ccl
import mtv

ROOT = Path(__file__).parents[1]


def run(code: str, *first: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """A process in `folder` whose path begins with `first`, then what is installed."""
    path = os.pathsep.join(map(str, (*first, ROOT)))
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_packages_have_pipelines_and_a_version() -> None:
    from ccl.pipeline import CCLPipeline
    from mtv.pipeline import MTVPipeline

    assert ccl.CCLPipeline is CCLPipeline and mtv.MTVPipeline is MTVPipeline
    assert ccl.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="module 'ccl' has no attribute 'Pipeline'"):
        _ = ccl.Pipeline  # type: ignore[attr-defined]


def test_importing_them_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys, ccl, mtv, shared.codecs, shared.encoders; print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    assert run(code, folder=tmp_path).stdout == "[]\n"


@pytest.mark.parametrize("package", ["ccl", "mtv"])
def test_another_package_named_shared_is_told(package: str, tmp_path: Path) -> None:
    (tmp_path / "other/shared").mkdir(parents=True)
    (tmp_path / "other/shared/__init__.py").touch()
    failed = run(f"import {package}", tmp_path / "other", folder=tmp_path)
    last = failed.stderr.splitlines()[-1]
    assert last.startswith("ImportError: ") and str(tmp_path / "other/shared") in last
    assert "another package named shared comes before this project's; uninstall or rename it" in last


SCRIPT = """
from scripts.sample_joint import main
from shared.utils.errors import run_main
run_main(lambda: main(["--prompt", "x", "--output", "x.mp4"]))
"""


@pytest.mark.parametrize(
    ("code", "start"),
    [("from ccl import CCLPipeline", "ImportError: "), ("from mtv import MTVPipeline", "ImportError: "),
     (SCRIPT, "error: ")],
    ids=["ccl", "mtv", "script"],
)  # fmt: skip
def test_a_torchaudio_that_cannot_be_loaded_is_told_with_its_cure(code: str, start: str, tmp_path: Path) -> None:
    (tmp_path / "other/torchaudio").mkdir(parents=True)
    reason = "libtorchaudio.so: cannot open shared object file"
    (tmp_path / "other/torchaudio/__init__.py").write_text(f"raise OSError({reason!r})")
    last = run(code, tmp_path / "other", folder=tmp_path).stderr.splitlines()[-1]
    assert last.startswith(f"{start}torchaudio cannot be loaded")
    assert last.endswith("run: python -m shared.utils.environment")


@pytest.mark.slow
def test_a_wheel_has_types_and_the_shipped_checkpoint(tmp_path: Path) -> None:
    source, wheels, installed = (tmp_path / name for name in ("source", "wheels", "installed"))
    source.mkdir()
    for name in ("ccl", "mtv", "shared", "assets"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(source)]
    subprocess.run(build, check=True)
    (wheel,) = wheels.iterdir()
    assert wheel.name.startswith(f"ccl-{ccl.__version__}-")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"ccl/py.typed", "mtv/py.typed", "shared/py.typed"} <= set(names)
    assert "shared/evaluation/templates/base.html.j2" in names
    place = f"ccl-{ccl.__version__}.data/data/share/ccl/puppets/"
    carried = {name.removeprefix(place) for name in names if name.startswith(place)}
    folder = ROOT / "assets/puppets"
    own = {str(path.relative_to(folder)) for path in folder.glob("*/*") if path.parent.name != "curve"}
    assert carried == own | {"model_index.json", "README.md", "pipeline.py"}
    subprocess.run(
        [*pip, "install", "--no-deps", "--ignore-installed", "--prefix", str(installed), str(wheel)], check=True
    )
    packages = sysconfig.get_path("purelib", vars={"base": str(installed), "platbase": str(installed)})
    code = (
        "from shared.checkpoint.folder import check_checkpoint\n"
        "from shared.checkpoint.loading import shipped_checkpoint\n"
        "check_checkpoint(shipped_checkpoint()); print(shipped_checkpoint())"
    )
    found = run(code, Path(packages), folder=tmp_path)
    assert found.stdout.strip() == str(installed / "share/ccl/puppets"), found.stderr
