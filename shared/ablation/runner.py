"""Runs jobs: several side by side, each step a process with a log of its own; what is done is not done again."""

import os
import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from shared.ablation.jobs import AblationJob, Jobs, Step
from shared.ablation.results import keep_plan, keep_result
from shared.puppets.script import HELD_OUT_SEED
from shared.utils.config import FREE_KEYS, changed_keys, flatten
from shared.utils.errors import UserError
from shared.utils.files import read_json, write_atomically, write_json
from shared.utils.locks import LOCK_NAME, locked
from shared.utils.progress import bar as progress_bar
from shared.utils.version import commit

SETTINGS = "settings.json"
LAST_LINES = 12  # of a failed step's log, as they are reported


class Failure(NamedTuple):
    """A job that did not come to its end, and why: the last lines of its log, or what it lacked."""

    job: str
    reason: str


def run(jobs: Jobs, groups: Sequence[Sequence[AblationJob]], parallel: int) -> list[Failure]:
    """Do what is not done of `groups`, each finished run's result at once in OUTPUT/results. UserError where a folder
    holds a run of another plan, or clips that evaluate.py measures on are trained on."""
    plan = jobs.plan
    for name, clips in plan.clips.items():
        if clips.seed == HELD_OUT_SEED:
            raise UserError(f"clips.{name}: seed {clips.seed} is that of evaluate.py's held-out clips; take another")
    with locked(jobs.output / LOCK_NAME, "runs an ablation in this folder", "let it end, or give another --output"):
        # all that is there, not only what is to be done now: the report takes every result
        for job in (job for group in jobs.groups(list(plan.variants), plan.seeds) for job in group):
            check_claim(job)
        for job in (job for group in groups for job in group):
            job.folder.mkdir(parents=True, exist_ok=True)
            write_json(job.folder / SETTINGS, job.settings)
        keep_plan(plan, jobs.output)
        return Runner(jobs, parallel).run(groups)


def check_claim(job: AblationJob) -> None:
    """Raise UserError naming the keys in which what was run in a job's folder differs from what the plan says now."""
    if not (job.folder / SETTINGS).exists():
        return
    before, now = flatten(read_json(job.folder / SETTINGS)), flatten(dict(job.settings))
    if changed := changed_keys(before, now, (*FREE_KEYS, *(f"train.{key}" for key in FREE_KEYS))):
        what = "give another --output, or the same values, or delete the folder to run it again"
        raise UserError(f"{job.folder} holds a run of another plan: {changed}; {what}")


@dataclass
class Runner:
    """Runs groups of jobs, up to `parallel` at a time, each with its share of the cores."""

    jobs: Jobs
    parallel: int
    failures: list[Failure] = field(default_factory=list)
    _children: set[subprocess.Popen[bytes]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: bool = False

    def run(self, groups: Sequence[Sequence[AblationJob]]) -> list[Failure]:
        """Do what is not done. A job that fails is noted and stops none but those that need it."""
        done = [job.done for group in groups for job in group]
        with progress_bar(total=len(done), initial=sum(done), unit="run", desc="ablation") as bar:
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
            for child in self._children:
                child.terminate()

    def _group(self, group: Sequence[AblationJob], parallel: int, bar: Any) -> None:
        threads, before = max(1, cores() // parallel), [job for job in group if job.done]
        with ThreadPoolExecutor(parallel) as pool:
            futures = {pool.submit(self._job, job, threads): job for job in group}
            try:
                for future in as_completed(futures):
                    if failure := future.result():
                        self.failures.append(failure)
                        bar.write(f"{failure.job} failed: {failure.reason}")
                    elif futures[future] not in before:
                        bar.update()
            except BaseException:
                self.stop()
                pool.shutdown(cancel_futures=True)
                raise

    def _job(self, job: AblationJob, threads: int) -> Failure | None:
        """All steps of a job that are not done yet; of a job that is done, its result is written anew."""
        if lacking := {failure.job for failure in self.failures} & set(job.needs):
            return Failure(job.name, f"not run, it needs {', '.join(sorted(lacking))}")
        file, about = job.folder / "about.json", dict[str, Any](seconds={}, steps=[])
        about = read_json(file) if file.exists() else {"commit": commit(), "machine": machine(), **about}
        for step in [] if job.done else job.steps:
            if step.name in about["steps"] and step.makes.exists():
                continue
            begun, reason = time.monotonic(), self._step(step, job, threads)
            about["seconds"][step.name] = about["seconds"].get(step.name, 0.0) + round(time.monotonic() - begun, 1)
            about["steps"] += [step.name] if reason is None else []
            write_json(file, about)
            if reason is not None:
                return Failure(job.name, reason)
        try:
            keep_result(self.jobs, job)
        except UserError as error:
            return Failure(job.name, str(error))
        write_atomically(job.folder / "done", "")
        return None

    def _step(self, step: Step, job: AblationJob, threads: int) -> str | None:
        """Run a command into its log; returns why it failed, or None."""
        log = job.folder / f"{step.name}.log"
        environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, threads // job.processes))}
        if threads < cores():  # a thread that waits by spinning takes a core from the runs beside it
            environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        with log.open("wb") as output:
            streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT}
            with self._lock:
                if self._stopped:
                    return "stopped"
                child = subprocess.Popen(step.command, env=environment, **streams)
                self._children.add(child)
            code = child.wait()
        with self._lock:
            self._children.discard(child)
        if code == 0 and step.makes.exists():
            return None
        ended = f"exit code {code}" if code else f"made no {step.makes}"
        return f"{step.name}: {ended}; {log} ends with\n{last_lines(log)}"


def last_lines(log: Path) -> str:
    """End of a log; of a progress bar only how it stood last."""
    text = log.read_bytes().decode("utf-8", errors="replace")  # as it is: a bar's steps end in \r
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n") if line.strip()]
    return "\n".join(f"    {line}" for line in lines[-LAST_LINES:]) or "    (nothing)"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """Cores, torch's version and the GPUs, if there are any."""
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        gpus = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split("\n")
    except (OSError, subprocess.CalledProcessError):
        gpus = []
    return {"cores": cores(), "torch": version("torch"), "gpus": [gpu.strip() for gpu in gpus if gpu.strip()]}


def evaluation_workers(parallel: int) -> int | None:
    """Say how many processes sample in an evaluation: a run's share of the cores; on a GPU evaluate.py's choice."""
    return None if machine()["gpus"] else max(1, cores() // parallel)
