"""Progress where there is no terminal: nothing of what is short, a line now and then of what is long."""

from __future__ import annotations

import io
import logging
import warnings

import pytest
from diffusers.utils import logging as diffusers_logging

from shared.utils import progress
from shared.utils.progress import IDLE, IDLE_LOG, Lines, bar, bar_options, quiet_loading


class Clock:
    """Seconds that a test lets go by."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)
        monkeypatch.setattr("tqdm.std.time", lambda: self.now)


def drawn(seconds: float, steps: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a bar of `steps` in so many seconds writes, in lines."""
    clock, file = Clock(monkeypatch), io.StringIO()
    monkeypatch.setattr("sys.stderr", file)
    for _ in bar(range(steps), desc="clips 1/1", unit="step"):
        clock.now += seconds / steps
    return file.getvalue().splitlines()


def test_what_is_short_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn(25, 24, monkeypatch) == []


def test_ten_minutes_are_some_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = drawn(600, 60, monkeypatch)
    assert lines == [
        "clips 1/1: 3/60 steps, 00:30",
        "clips 1/1: 6/60 steps, 01:00",
        "clips 1/1: 12/60 steps, 02:00",
        "clips 1/1: 24/60 steps, 04:00",
        "clips 1/1: 48/60 steps, 08:00",
    ]
    assert sum(len(line.split()) for line in lines) < 40


def test_a_day_is_a_line_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = drawn(86_400, 1000, monkeypatch)
    assert 24 <= len(lines) <= 32 and lines[-1].startswith("clips 1/1: ")


def test_a_terminal_has_its_bar() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert bar_options(Terminal()) == {"dynamic_ncols": True}
    assert isinstance(bar_options(io.StringIO())["file"], Lines)


def test_libraries_are_quiet_while_they_load_and_as_before_after_it() -> None:
    assert diffusers_logging.is_progress_bar_enabled()
    with pytest.warns(UserWarning) as told, quiet_loading():
        assert not diffusers_logging.is_progress_bar_enabled()
        for text in (*IDLE, f"{IDLE[0]} And more."):
            warnings.warn(text, stacklevel=1)
    assert [str(one.message) for one in told] == [f"{IDLE[0]} And more."]
    assert diffusers_logging.is_progress_bar_enabled()


def test_deepspeed_says_no_idle_words_while_something_loads_and_all_others(monkeypatch) -> None:
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("DeepSpeed")
    logger.addHandler(handler)
    monkeypatch.setattr(logger, "level", logging.INFO)  # a training in this process has made it higher
    logger.manager._clear_cache()
    try:
        with quiet_loading():
            for text in (*IDLE_LOG, "It is full."):
                logger.warning(text)
        logger.warning(IDLE_LOG[0])
    finally:
        logger.removeHandler(handler)
    assert records == ["It is full.", IDLE_LOG[0]]
