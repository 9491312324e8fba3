"""Several runs of training scripts that share one process group, in a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
#: (name, "ccl" or "mtv", words of the command, where it is killed or None).
Line = tuple[str, str, list[str], Any]
_DRIVER = """
import contextlib, importlib, io, json, sys
sys.path.insert(0, "scripts")
import train_ccl, train_mtv
from shared.utils.distributed import session
from shared.utils.errors import run_main
lines, path, method, condition = json.loads(sys.argv[1])
module, _, kind = path.partition(":")
owner, results = getattr(importlib.import_module(module), kind), []
original = getattr(owner, method)
with session():
    for name, script, argv, kill in lines:
        def hooked(self, *given):
            made = original(self, *given)
            if kill is not None and eval(condition, {"self": self, "given": given, "kill": kill}):
                raise KeyboardInterrupt
            return made
        setattr(owner, method, hooked)
        code, err = 0, io.StringIO()
        with contextlib.redirect_stderr(err):
            try:
                run_main(lambda: {"mtv": train_mtv, "ccl": train_ccl}[script].main(argv))
            except (SystemExit, KeyboardInterrupt) as stop:
                code = getattr(stop, "code", "killed")
        results.append([name, code, err.getvalue()])
print("RESULTS" + json.dumps(results))
"""


def driven(lines: Sequence[Line], method: str, killed: str) -> dict[str, tuple[int | str, str]]:
    """Exit code ("killed") and stderr of each run by name. A run is killed after that call of `method`
    ("module:Class.method") for which the expression `killed` holds, of `self`, `given` and the line's `kill`."""
    owner, _, name = method.rpartition(".")
    command = [sys.executable, "-c", _DRIVER, json.dumps([lines, owner, name, killed])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "RESULTS" in done.stdout, done.stderr
    return {name: (code, err) for name, code, err in json.loads(done.stdout.rpartition("RESULTS")[2])}
