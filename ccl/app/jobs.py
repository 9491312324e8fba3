"""Jobs of many users on one device, one after the other: progress, results as they come, cancelling. No Gradio."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from shared.utils.errors import UserError, system_refusal

State = Literal["waiting", "running", "done", "failed", "cancelled"]
ENDED: tuple[State, ...] = ("done", "failed", "cancelled")
MOST_WAITING = 16
_log = logging.getLogger(__name__)


class Cancelled(Exception):
    """Ends the work of a job whose user has asked for it."""


@dataclass(frozen=True)
class Update:
    """What a user is told of a job: its state, a line, the share that is done, and what there is of its results."""

    state: State
    line: str
    share: float = 0.0
    results: tuple[Any, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.state in ENDED


def failed(error: BaseException) -> Update:
    """Say in plain words why a job has failed; what is a fault of ours is logged with its traceback."""
    line = str(error) if isinstance(error, UserError) else system_refusal(error)
    if not line:
        _log.error("a job of the page failed", exc_info=error)
        line = f"a fault of this program ({type(error).__name__}); its traceback stands where the page was started"
    return Update("failed", " ".join(line.split()))


class Job:
    """Work that a queue runs as `work(job)`, which reports to it. Any thread may ask for its updates, or cancel it."""

    def __init__(self, work: Callable[[Job], None]) -> None:
        self._work = work
        self._changed = threading.Condition()
        self._asked_to_stop = threading.Event()
        self._update = Update("waiting", "waiting")
        self._count = 0

    def progress(self, line: str, share: float) -> None:
        """Tell how far the work is; raises `Cancelled` where the user has asked for that."""
        self.check()
        self._tell("running", line, share=min(1.0, max(0.0, share)))

    def show(self, *results: Any) -> None:
        """Put what there is in the place of the results so far."""
        self.check()
        self._tell("running", results=results)

    def note(self, line: str) -> None:
        """Tell something beside the progress, which stays."""
        self._tell("running", notes=(*self._update.notes, line))

    def check(self) -> None:
        """Raise `Cancelled` if the user has asked for that."""
        if self._asked_to_stop.is_set():
            raise Cancelled

    def cancel(self) -> None:
        """Ask the work to end; a job that waits ends at once."""
        self._asked_to_stop.set()
        if self.latest.state == "waiting":
            self._tell("cancelled", "cancelled")

    @property
    def latest(self) -> Update:
        """Whatever is known now."""
        with self._changed:
            return self._update

    def updates(self) -> Iterator[Update]:
        """Yield what is known, then each time that it has changed, until the job has ended."""
        seen = -1
        while True:
            with self._changed:
                self._changed.wait_for(lambda before=seen: self._count != before)  # type: ignore[misc]
                update, seen = self._update, self._count
            yield update
            if update.ended:
                return

    def run(self) -> None:
        """Do the work, in the thread of the queue; nothing is raised."""
        if self.latest.ended:
            return
        try:
            self.progress("starting", 0.0)
            self._work(self)
            self._tell("done", "done", share=1.0)
        except Cancelled:
            self._tell("cancelled", "cancelled")
        except Exception as error:
            self._tell("failed", failed(error).line)

    def wait_behind(self, ahead: int) -> None:
        """Tell how many jobs come before this one."""
        if self.latest.state == "waiting":
            self._tell("waiting", f"waiting: {ahead} job{'s' * (ahead != 1)} before yours")

    def _tell(
        self, state: State, line: str | None = None, share: float | None = None,
        results: tuple[Any, ...] | None = None, notes: tuple[str, ...] | None = None,
    ) -> None:  # fmt: skip
        with self._changed:
            old = self._update
            if old.ended:
                return
            self._update = Update(
                state, old.line if line is None else line, old.share if share is None else share,
                old.results if results is None else results, old.notes if notes is None else notes,
            )  # fmt: skip
            self._count += 1
            self._changed.notify_all()


class JobQueue:
    """One thread that runs jobs in the order in which they came; so one model at a time is at work."""

    def __init__(self, most_waiting: int = MOST_WAITING) -> None:
        self.most_waiting = most_waiting
        self._waiting: list[Job] = []
        self._running: Job | None = None
        self._came = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="jobs of the page", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[Job], None]) -> Job:
        """Take in a job. UserError where so many wait that it would be long until its turn."""
        job = Job(work)
        with self._came:
            self._waiting = [other for other in self._waiting if not other.latest.ended]
            if len(self._waiting) >= self.most_waiting:
                raise UserError(f"{len(self._waiting)} jobs wait already; try again when some of them are done")
            self._waiting.append(job)
            self._came.notify()
            self._tell_places()
        return job

    def close(self) -> None:
        """Cancel all jobs, and end the thread with the one that runs."""
        with self._came:
            self._closed = True
            for job in (*self._waiting, *filter(None, [self._running])):
                job.cancel()
            self._came.notify()
        self._thread.join()

    def _tell_places(self) -> None:
        before = int(self._running is not None)
        for job in self._waiting:
            if not job.latest.ended:
                job.wait_behind(before)
                before += 1

    def _serve(self) -> None:
        while True:
            with self._came:
                self._running = None
                self._came.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                self._running = self._waiting.pop(0)
                self._tell_places()
                job = self._running
            job.run()
