"""What is watched is called as before, and noted; modules that are not watched are left alone."""

from __future__ import annotations

from types import ModuleType

import pytest

from ccl.analysis import startup_marks as marks


def test_a_watched_function_gives_what_it_gave():
    module, notes = ModuleType("one"), []
    module.double = lambda number, add=0: 2 * number + add
    marks.watch(module, "double", "begins", "ends", note=notes.append)
    assert module.double(4, add=1) == 9 and notes == ["begins", "ends"]

    def fails():
        raise KeyError("no")

    module.fails = fails
    marks.watch(module, "fails", "begins", "never", note=notes.append)
    with pytest.raises(KeyError):
        module.fails()
    assert notes[2:] == ["begins"]


def test_only_what_is_watched_is_found_here():
    watcher = marks.Watcher(note=lambda mark: None)
    assert watcher.find_spec("json", None, None) is None
    assert {mark for _, *both in marks.WATCHED.values() for mark in both if mark} == set(marks.MARKS)
