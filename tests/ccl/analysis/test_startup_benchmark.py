"""Scripts are started as they are, watched from outside, and stopped after their first step; nothing is written."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ccl.analysis import startup_benchmark as startup
from ccl.analysis.benchmark_options import Startup
from ccl.analysis.startup_marks import MARKS
from shared.utils.errors import UserError

SCRIPT = """
import sys, time
from shared.utils.cli import parse
from shared.checkpoint.loading import load_model
from ccl.transformer import DualStreamTransformer
parse(0.02); time.sleep(0.02); load_model(0.03); DualStreamTransformer().forward(0.01)
open(sys.argv[1], "w").write("went on")
"""


def package(folder: Path) -> None:
    """Modules of the names that are watched."""
    function = "import time\ndef {name}(seconds):\n    time.sleep(seconds)\n"
    for module, name in {"shared/utils/cli": "parse", "shared/checkpoint/loading": "load_model"}.items():
        (file := folder / f"{module}.py").parent.mkdir(parents=True)
        file.write_text(function.format(name=name))
    (folder / "ccl").mkdir()
    method = "import time\nclass DualStreamTransformer:\n    def forward(self, seconds):\n        time.sleep(seconds)\n"
    (folder / "ccl/transformer.py").write_text(method)


def test_marks_come_in_their_order_and_the_script_ends(tmp_path):
    package(tmp_path)
    (script := tmp_path / "script.py").write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    found = startup.started([str(script), str(tmp_path / "out")], tmp_path / "marks.json", environment)
    walls = [found[mark][0] for mark in MARKS]
    least = (0.02, 0.02, 0.03, 0.0, 0.01)
    assert all(after - before >= wait for before, after, wait in zip([0.0, *walls], walls, least, strict=False))
    assert 0 < found["options"][1] <= found["step done"][1] and not (tmp_path / "out").exists()


def test_a_script_that_takes_no_step_tells_why(tmp_path):
    package(tmp_path)
    (script := tmp_path / "script.py").write_text("import sys\nsys.exit('error: no bell')")
    with pytest.raises(UserError, match=r"^script.py: no bell$"):
        startup.started([str(script)], tmp_path / "marks.json", os.environ | {"PYTHONPATH": str(tmp_path)})


@pytest.mark.slow  # both scripts import torch and the model, twice
def test_both_scripts_reach_their_first_step(tmp_path):
    found, table = startup.startup_benchmark(Startup(repeats=1, threads=1))
    for script in ("sample_joint", "sample_mtv"):
        walls = [found["seconds"][script][mark]["wall"]["median"] for mark in MARKS]
        assert walls == sorted(walls) and f"{script}.py" in table
    assert sys.executable and found["threads"] == 1
