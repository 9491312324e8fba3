"""Does jobs: several side by side, each step a process with a log of its own; what is done is not done again."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from shared.ablation.jobs import Job, Step
from shared.ablation.machine import cores, machine
from shared.utils.config import flatten
from shared.utils.errors import UserError
from shared.utils.files import read_json, write_json

SETTINGS = "settings.json"
LAST_LINES = 12
"""Of a failed step's log, as they are reported."""


@dataclass(frozen=True)
class Failure:
    """A job that did not come to its end, and why: the last lines of its log, or what it lacked."""

    job: str
    reason: str


def check_claims(jobs: Sequence[Job]) -> None:
    """Raises UserError naming the keys in which what was run in a job's folder differs from what the plan says now."""
    from shared.training.state import FREE_KEYS

    for job in (job for job in jobs if (job.folder / SETTINGS).exists()):
        before, now = flatten(read_json(job.folder / SETTINGS)), flatten(_plain(job.settings))
        changed = [
            f"{key} ({before.get(key, 'unset')!r} there, {now.get(key, 'unset')!r} here)"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key) and not key.removeprefix("train.").startswith(FREE_KEYS)
        ]
        if changed:
            raise UserError(
                f"{job.folder} holds a run of another plan: {', '.join(changed)}; give another --output, or the same "
                "values, or delete the folder to run it again"
            )


def claim(jobs: Sequence[Job]) -> None:
    """Make each folder its job's own: its settings stand in it before anything runs."""
    for job in jobs:
        job.folder.mkdir(parents=True, exist_ok=True)
        write_json(job.folder / SETTINGS, _plain(job.settings))


@dataclass
class Runner:
    """Runs groups of jobs, up to `parallel` at a time, each with its share of the cores.

    Args:
        finish: called after a job's steps, before it counts as done; a UserError fails the job.
    """

    parallel: int
    finish: Callable[[Job], None]
    failures: list[Failure] = field(default_factory=list)
    _children: set[subprocess.Popen[bytes]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: bool = False

    def run(self, groups: Sequence[Sequence[Job]]) -> list[Failure]:
        """Do what is not done. A job that fails is noted and stops none but those that need it."""
        total = sum(len(group) for group in groups)
        done = sum(job.done for group in groups for job in group)
        with tqdm(total=total, initial=done, unit="run", desc="ablation", dynamic_ncols=True) as bar:
            try:
                for group in groups:
                    alone = len(group) == 1 or group[0].name.startswith("clips")  # rendering takes all cores
                    self._group(group, 1 if alone else min(self.parallel, len(group)), bar)
            finally:
                self.stop()
        return self.failures

    def stop(self) -> None:
        """End the processes that still run."""
        with self._lock:
            self._stopped = True
            children = list(self._children)
        for child in children:
            child.terminate()

    def _group(self, group: Sequence[Job], parallel: int, bar: Any) -> None:
        threads, before = max(1, cores() // parallel), [job for job in group if job.done]
        with ThreadPoolExecutor(parallel) as pool:
            futures = {pool.submit(self._job, job, threads): job for job in group}
            try:
                for future in as_completed(futures):
                    failure = future.result()
                    if failure is not None:
                        self.failures.append(failure)
                        bar.write(f"{failure.job} failed: {failure.reason}")
                    elif futures[future] not in before:
                        bar.update()
            except BaseException:
                self.stop()
                pool.shutdown(cancel_futures=True)
                raise

    def _job(self, job: Job, threads: int) -> Failure | None:
        """All steps of a job that are not done yet; of a job that is done, its result is written anew."""
        lacking = {failure.job for failure in self.failures} & set(job.needs)
        if lacking:
            return Failure(job.name, f"not run, it needs {', '.join(sorted(lacking))}")
        file = job.folder / "about.json"
        about = read_json(file) if file.exists() else _about()
        for step in [] if job.done else job.steps:
            if step.name in about["steps"] and step.makes.exists():
                continue
            begun = time.monotonic()
            reason = self._step(step, job, threads)
            about["seconds"][step.name] = about["seconds"].get(step.name, 0.0) + round(time.monotonic() - begun, 1)
            about["steps"] += [step.name] if reason is None else []
            write_json(file, about)
            if reason is not None:
                return Failure(job.name, reason)
        try:
            self.finish(job)
        except UserError as error:
            return Failure(job.name, str(error))
        (job.folder / "done").touch()
        return None

    def _step(self, step: Step, job: Job, threads: int) -> str | None:
        """Run a command into its log; returns why it failed, or None."""
        log = job.folder / f"{step.name}.log"
        environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, threads // job.processes))}
        if threads < cores():  # a thread that waits by spinning takes a core from the runs beside it
            environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        with log.open("wb") as output:
            with self._lock:
                if self._stopped:
                    return "stopped"
                child = subprocess.Popen(
                    step.command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
                )
                self._children.add(child)
            code = child.wait()
        with self._lock:
            self._children.discard(child)
        if code == 0 and step.makes.exists():
            return None
        ended = f"exit code {code}" if code else f"made no {step.makes}"
        return f"{step.name}: {ended}; {log} ends with\n{last_lines(log)}"


def last_lines(log: Path, count: int = LAST_LINES) -> str:
    """The end of a log; of a progress bar only how it stood last."""
    text = log.read_bytes().decode("utf-8", errors="replace")  # as it is: a bar's steps end in \r
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n") if line.strip()]
    return "\n".join(f"    {line}" for line in lines[-count:]) or "    (nothing)"


def _about() -> dict[str, Any]:
    """The code and the machine that a job begins on."""
    from shared.training.card import commit

    return {"commit": commit(), "machine": machine(), "seconds": {}, "steps": []}


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives it back: tuples are lists."""
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    return plain
