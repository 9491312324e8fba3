"""SIGTERM, SIGINT and SIGUSR1, Slurm's warning: they end a program at once and in good order, or are kept for later."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
SAME = 1.0  # s within which a signal that comes again is the same one: launchers pass on what the terminal sent as well


class Stopped(KeyboardInterrupt):
    """A signal ends the program, with the exit code 128 + its number; `kept` says what there is to go on from."""

    def __init__(self, number: int, kept: str = "") -> None:
        super().__init__(number, kept)
        self.number, self.kept = number, kept

    @property
    def code(self) -> int:
        return 128 + self.number

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.number).name}" + (f"; {self.kept}" if self.kept else "")


class StopRequest:
    """Signals as they come in: `number` is that of the first one, 0 before. Within `at_once` it raises `Stopped`.
    The same one again, or SIGINT, more than a second later ends the process as if nobody listened."""

    def __init__(self) -> None:
        self.number = 0
        self._since = 0.0
        self._raises = False

    @contextmanager
    def listening(self) -> Iterator["StopRequest"]:
        """Take the signals while the block lasts; in a thread other than the main one, which gets none, do nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self._take) for number in STOPPING}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let the first signal, also one that came before, end the block in `Stopped`."""
        before, self._raises = self._raises, True
        try:
            if self.number:
                raise Stopped(self.number)
            yield
        finally:
            self._raises = before

    def _take(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.number:
            self.number, self._since = number, now
            if self._raises:
                raise Stopped(number)
        elif number in (self.number, signal.SIGINT) and now - self._since > SAME:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def leave_to_parent() -> None:
    """For a process that another one works with: what the terminal sends to both is the other's to answer, and when the
    other ends, or ends this one, it ends at once."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    _end_with_parent()


def _end_with_parent() -> None:
    """Let the kernel end this process when its parent is killed (Linux: prctl, PR_SET_PDEATHSIG)."""
    import ctypes
    import sys

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
