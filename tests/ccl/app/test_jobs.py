"""Jobs: their order and places, progress, results, cancelling, and what is said of failures."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from ccl.app.jobs import Job, JobQueue, Update
from shared.utils.errors import UserError


@pytest.fixture
def queue() -> Iterator[JobQueue]:
    queue = JobQueue(most_waiting=2)
    yield queue
    queue.close()


def last(job: Job) -> Update:
    return list(job.updates())[-1]


class Gate:
    """Work that has begun and waits to be let on, looking now and then whether it is cancelled."""

    def __init__(self) -> None:
        self.begun, self.open = threading.Event(), threading.Event()

    def __call__(self, job: Job) -> None:
        self.begun.set()
        while not self.open.wait(0.01):
            job.check()


def test_progress_and_results_are_told_in_order(queue: JobQueue) -> None:
    go = threading.Event()

    def work(job: Job) -> None:
        go.wait(10)
        for number in (1, 2):
            job.progress(f"step {number} of 2", number / 2)
            job.show(*range(number))
        job.note("the shorter is filled with silence")

    job = queue.submit(work)
    updates = job.updates()
    first = next(updates)
    go.set()
    rest = list(updates)
    assert not first.ended and rest[-1] == Update("done", "done", 1.0, (0, 1), ("the shorter is filled with silence",))
    assert [one.share for one in rest] == sorted(one.share for one in rest)


def test_jobs_wait_for_their_turn_and_are_told_their_place(queue: JobQueue) -> None:
    gate, order = Gate(), list[int]()
    queue.submit(gate)
    assert gate.begun.wait(10)
    second, third = (queue.submit(lambda _, number=number: order.append(number)) for number in (2, 3))
    assert second.latest.line == "waiting: 1 job before yours" and third.latest.line == "waiting: 2 jobs before yours"
    with pytest.raises(UserError, match="2 jobs wait already; try again when some of them are done"):
        queue.submit(lambda _: None)
    second.cancel()
    assert last(second).state == "cancelled"
    queue.submit(lambda _: order.append(4))  # there is room again
    assert third.latest.line == "waiting: 1 job before yours"
    gate.open.set()
    assert last(third).state == "done" and order[0] == 3


def test_a_running_job_ends_where_it_next_tells_of_itself(queue: JobQueue) -> None:
    gate = Gate()
    job = queue.submit(gate)
    assert gate.begun.wait(10)
    job.cancel()
    assert last(job) == Update("cancelled", "cancelled")
    assert last(queue.submit(lambda job: job.show("next"))).results == ("next",)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("voice.wav: has no sound;\na file with sound is needed"), "voice.wav: has no sound; a file with"),
        (MemoryError("9 GB"), "not enough memory (9 GB); free some"),
        (OSError(28, "No space left on device", "clip.mp4"), "clip.mp4: No space left on device; make room"),
        (KeyError("secret"), "a fault of this program (KeyError); its traceback stands where the page was started"),
    ],
)
def test_failures_are_told_in_plain_words(
    queue: JobQueue, error: Exception, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    def work(job: Job) -> None:
        job.show("what there is")
        raise error

    update = last(queue.submit(work))
    assert update.state == "failed" and update.line.startswith(said) and update.results == ("what there is",)
    assert "secret" not in update.line and ("Traceback" in caplog.text) == isinstance(error, KeyError)


def test_a_queue_that_is_closed_cancels_all() -> None:
    queue, gate = JobQueue(), Gate()
    jobs = [queue.submit(gate), queue.submit(lambda _: None)]
    assert gate.begun.wait(10)
    queue.close()
    assert [job.latest.state for job in jobs] == ["cancelled", "cancelled"]
