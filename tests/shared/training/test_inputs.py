"""What a training script refuses before torch is imported."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
TELL = """
import runpy, sys
script, *sys.argv[1:] = sys.argv[1:]
try:
    runpy.run_path(script, run_name="__main__")
finally:
    print("torch" in sys.modules)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """clips/, and good.yaml and mtv.yaml that train on it."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "clips").mkdir()
    common = {"output": str(folder / "out"), "data": {"manifest": str(folder / "clips")}}
    (folder / "good.yaml").write_text(yaml.safe_dump(common | {"model": {}, "train": {"steps": 3}}))
    stages = {"stages": [{"name": "one", "steps": 1}], "control": {}}
    (folder / "mtv.yaml").write_text(yaml.safe_dump(common | {"model": {}} | stages))
    return folder


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train_ccl --config good.yaml --sett x=1", "unknown option --sett; the nearest is --set"),
        ("train_ccl --set train.steps=1", "--config is needed"),
        ("train_ccl --config none.yaml", "none.yaml: cannot read this configuration file"),
        ("train_ccl --config good.yaml --set foo=1", "unknown key foo"),
        ("train_ccl --config good.yaml --local_rank=1 --set data.manifest=none", "none: no such manifest"),
        ("train_ccl --config good.yaml --set validation.manifest=none", "none: no such manifest"),
        ("train_ccl --config good.yaml --set init=none", "checkpoint none: no such folder"),
        ("train_ccl --config good.yaml --set init_streams=clips", "model_index.json is missing"),
        ("train_ccl --config good.yaml --set data.manifest=null --set data.shards=none", "none"),
        ("train_ccl --config good.yaml --set codecs=./none", "codecs: ./none: no such folder"),
        (
            "train_ccl --config good.yaml --set components.text_encoder=clips",
            "components.text_encoder: clips: no text encoder",
        ),
        ("train_mtv --config good.yaml", "stages is missing"),
        ("train_mtv --config mtv.yaml --local-rank 0 --set init=none", "checkpoint none: no such folder"),
        ("export --run none --output out", "--run none: no config.yaml there; give OUTPUT of train_ccl.py"),
    ],
)
def test_a_wrong_line_is_refused_at_once_without_torch(folder: Path, line: str, said: str) -> None:
    script, *arguments = line.split()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", TELL, str(ROOT / f"scripts/{script}.py"), *arguments],
        cwd=folder, env={"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and said in done.stderr
    assert done.stderr.count("\n") == 1 and done.stdout == "False\n"
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2
    assert not (folder / "out").exists()
