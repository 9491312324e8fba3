"""Jobs of the page, run for tests."""

from __future__ import annotations

from collections.abc import Callable

from ccl.app.jobs import Job, Update


def finished(work: Callable[[Job], object]) -> Update:
    """Run the work of a job in this thread, and give its last update."""
    job = Job(work)  # type: ignore[arg-type]
    job.run()
    return job.latest


class Recorded(Job):
    """A job that keeps all its updates."""

    def __init__(self, work: Callable[[Job], object]) -> None:
        self.told: list[Update] = []
        super().__init__(work)  # type: ignore[arg-type]

    def _tell(self, *arguments: object, **named: object) -> None:
        super()._tell(*arguments, **named)  # type: ignore[arg-type]
        self.told.append(self.latest)


def recorded(work: Callable[[Job], object]) -> list[Update]:
    """Run the work of a job in this thread, and give all its updates."""
    job = Recorded(work)
    job.run()
    return job.told
