"""Run a script and note when it gets somewhere; it ends after its first denoising step, before anything is written.

`python -P ccl/analysis/startup_marks.py MARKS SCRIPT ARGUMENTS ...`: MARKS becomes a JSON file that has of each mark
the time in seconds since the epoch, and the seconds for which the process ran. The script runs as it is: modules are
imported when it imports them, and only then is a function in them watched.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import os
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

#: Marks in their order.
MARKS = ("options", "imports", "loaded", "step begins", "step done")
#: By module: the function, or class and method, that is watched, and the marks of its first call's begin and end.
WATCHED: dict[str, tuple[str, str | None, str | None]] = {
    "shared.utils.cli": ("parse", None, "options"),
    "shared.checkpoint.loading": ("load_model", "imports", "loaded"),
    "ccl.transformer": ("DualStreamTransformer.forward", "step begins", "step done"),
}


class Watcher(importlib.abc.MetaPathFinder):
    """Finds modules as Python does, and has those in `WATCHED` watched as soon as they are there."""

    def __init__(self, note: Callable[[str | None], None]) -> None:
        self.note = note

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> Any:
        """Find a watched module; of all others None, so that Python looks on."""
        if fullname not in WATCHED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            loader, original = spec.loader, spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                original(module)
                watch(module, *WATCHED[fullname], note=self.note)

            loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def watch(
    module: ModuleType, place: str, begins: str | None, ends: str | None, note: Callable[[str | None], None]
) -> None:
    """Put a function in the place of that which `place` names, which calls it and notes its begin and its end."""
    owner: Any = module
    *classes, name = place.split(".")
    for part in classes:
        owner = getattr(owner, part)
    original = getattr(owner, name)

    def call(*arguments: Any, **options: Any) -> Any:
        note(begins)
        result = original(*arguments, **options)
        note(ends)
        return result

    setattr(owner, name, call)


def main() -> None:
    """Run the script; the process ends with the last mark, or as the script does."""
    file, script = Path(sys.argv[1]), sys.argv[2]
    marks: dict[str, tuple[float, float]] = {}

    def note(mark: str | None) -> None:
        if mark is not None:
            marks.setdefault(mark, (time.time(), time.process_time()))
        if mark == MARKS[-1]:
            file.write_text(json.dumps(marks), encoding="utf-8")
            os._exit(0)

    sys.meta_path.insert(0, Watcher(note))
    sys.argv = sys.argv[2:]
    sys.path.insert(0, str(Path(script).parent))
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
