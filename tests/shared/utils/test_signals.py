"""Signals that ask to stop: at once, or kept until a step is done; one that comes again ends the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared.utils import signals
from shared.utils.signals import Stopped, StopRequest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("number", signals.STOPPING)
def test_a_signal_is_kept_and_ends_only_what_is_to_end_at_once(number: int) -> None:
    with StopRequest().listening() as stop:
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)  # a launcher passes on what the terminal sent as well
        assert stop.number == number
        with pytest.raises(Stopped, match=f"stopped by {signal.Signals(number).name}") as error, stop.at_once():
            raise AssertionError("it came before")
        assert error.value.code == 128 + number
    with StopRequest().listening() as stop:
        with pytest.raises(Stopped), stop.at_once():
            os.kill(os.getpid(), number)
            time.sleep(1)
        assert stop.number == number  # and what comes after knows


def test_handlers_are_as_before_when_the_block_ends() -> None:
    before = [signal.getsignal(number) for number in signals.STOPPING]
    with StopRequest().listening(), StopRequest().listening():
        pass
    assert [signal.getsignal(number) for number in signals.STOPPING] == before


@pytest.mark.parametrize(("second", "code"), [("SIGTERM", -15), ("SIGINT", -2), ("SIGUSR1", 0)])
def test_the_same_again_or_ctrl_c_ends_the_process_and_another_warning_does_not(second: str, code: int) -> None:
    lines = [
        "import os, signal, time", "from shared.utils import signals", "signals.SAME = 0.05",
        "with signals.StopRequest().listening():", "    os.kill(os.getpid(), signal.SIGTERM)", "    time.sleep(0.1)",
        f"    os.kill(os.getpid(), signal.{second})", "    time.sleep(0.1)",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (code, "")
