"""The engine: every stage over every clip that is left, in child processes, each finding in the ledger at once."""

from __future__ import annotations

import errno
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from shared.curation.children import Lost, supervised
from shared.curation.config import FREE_KEYS, DemixConfig
from shared.curation.ledger import Ledger
from shared.curation.on_ray import on_ray
from shared.curation.record import Context, Finding, Record, Stage
from shared.curation.shots import records_of
from shared.curation.sources import Source
from shared.utils.digest import files_digest
from shared.utils.errors import UserError, system_refusal
from shared.utils.progress import bar as progress_bar

FILM = "film"
"""What the ledger calls the step that hashes a file."""
BLOCK = 2**20
STOPPING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE)
"""What the system refuses for a clip and would refuse for all."""


Executor = Literal["inline", "ray"]
EXECUTORS: dict[Executor, Any] = {"inline": supervised, "ray": on_ray}
"""What runs a function over items, by so many processes: `supervised`, and what does as it does."""


class Work(NamedTuple):
    """A record for a stage."""

    stage: Stage
    record: Record


class Done(NamedTuple):
    """What a stage found, and the seconds it took."""

    finding: Finding
    seconds: float


class Refused(NamedTuple):
    """Why the whole run must stop."""

    reason: str


class Digests:
    """Digest of all that decides what a stage finds: its version, its section of the configuration, the files that it
    loads, and those of the stages that it reads."""

    def __init__(self, stages: Sequence[Stage], config: DemixConfig) -> None:
        self._of: dict[str, str] = {}
        for stage in stages:
            self.add(stage, config)

    def add(self, stage: Stage, config: DemixConfig) -> None:
        """Take in a stage that reads those that are there."""
        section = getattr(config, stage.name, None)
        settings = section.model_dump(mode="json", exclude=FREE_KEYS.get(stage.name)) if section is not None else None
        parts = [stage.name, stage.version, settings, [self._of[name] for name in stage.reads]]
        if (loads := stage.loads(config)) is not None:
            parts.append(files_digest(loads.files))
        self._of[stage.name] = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def __getitem__(self, stage: str) -> str:
        return self._of[stage]


class Engine:
    """Runs `stages` in order; the first makes clips of films, the others look at clips. `copies`: files that are left
    out, each with the film that it is a copy of. `joined`: clips of several others, and what is said of each."""

    def __init__(
        self, stages: Sequence[Stage], context: Context, ledger: Ledger, workers: int, retry: bool = False,
        executor: Executor = "inline",
    ) -> None:  # fmt: skip
        self.stages, self.context, self.ledger, self.workers, self.retry = stages, context, ledger, workers, retry
        self.digests = Digests(stages, context.config)
        self._execute = EXECUTORS[executor]
        self.films: list[Record] = []
        self.clips: list[tuple[Record, Finding]] = []
        self.copies: list[tuple[Path, Path]] = []
        self.joined: list[tuple[Record, Finding]] = []

    def films_of(self, sources: Sequence[Source], length: Callable[[Path], float]) -> None:
        """Take films in, each content once; `length` reads the seconds of a file."""
        known: dict[str, Record] = {}
        for source in progress_bar(sources, desc="films", unit="film"):
            key = self._content_key(source.path)
            if key in known:
                self.copies.append((source.path, known[key].source))
                continue
            licence = source.licence or self.context.config.licence
            known[key] = Record(key, source.path, key, 0.0, length(source.path), licence)
        self.films = list(known.values())

    def run(self, names: Iterable[str]) -> None:
        """Run the stages of these names over all that is left. UserError if one needs another that has not run."""
        wanted = set(names)
        for stage in self.stages:
            if stage.name in wanted:
                self._run(stage)
            if stage is self.stages[0]:
                self.clips = [clip for film in self.films for clip in self._clips_of(film)]

    def join(self, stage: Stage, records: Sequence[Record]) -> None:
        """Run a stage over clips of several others, which carry what it reads, and keep what it says of each."""
        self.digests.add(stage, self.context.config)
        self._run(stage, [Work(stage, record) for record in records])
        found = (self.ledger.get(record.key, stage.name, self.digests[stage.name]) for record in records)
        self.joined = [(one, _finding(line)) for one, line in zip(records, found, strict=True) if line is not None]

    def findings(self, record: Record, said: Finding) -> Iterator[tuple[str, Finding]]:
        """Yield the findings about a clip by stage, from what is said of its length on; the last may be no keep."""
        yield self.stages[0].name, said
        for stage in self.stages[1:]:
            if said.verdict != "keep":
                return
            if (line := self.ledger.get(record.key, stage.name, self.digests[stage.name])) is not None:
                said = _finding(line)
                yield stage.name, said

    def film_finding(self, film: Record) -> Finding | None:
        """Say what the first stage found about a film, if it has run."""
        first = self.stages[0].name
        line = self.ledger.get(film.key, first, self.digests[first])
        return None if line is None else _finding(line)

    def seconds(self) -> dict[str, float]:
        """Seconds of work that the ledger has for each stage."""
        total = {stage.name: 0.0 for stage in self.stages}
        first = self.stages[0].name
        for stage, records in ((first, self.films), *((s.name, [c for c, _ in self.clips]) for s in self.stages[1:])):
            for record in records:
                line = self.ledger.get(record.key, stage, self.digests[stage])
                total[stage] += line["seconds"] if line else 0.0
        return total

    def _run(self, stage: Stage, given: Sequence[Work] | None = None) -> None:
        total = sum(1 for _ in self._todo(stage, given))
        begun = self._begun(stage, given)
        loads = stage.loads(self.context.config)
        most = loads.processes if loads is not None else None
        workers = self.workers if most is None else min(self.workers, most)
        with closing(self._execute(partial(_work, self.context), begun, workers, self._limit)) as done:
            self._keep(stage, progress_bar(done, total=total, desc=stage.name, unit="clip"))

    def _keep(self, stage: Stage, done: Iterable[tuple[Work, Done | Refused | Lost]]) -> None:
        """Write what a stage finds into the ledger, as it comes."""
        for work, result in done:
            if isinstance(result, Lost):
                result = Done(Finding("fail", result.cause, result.reason), self._limit(work))
            if isinstance(result, Refused):
                raise UserError(result.reason)
            finding, seconds = result
            content = asdict(finding) | {"seconds": round(seconds, 4)}
            self.ledger.append(work.record.key, stage.name, self.digests[stage.name], **content)

    def _todo(self, stage: Stage, given: Sequence[Work] | None) -> Iterator[Work]:
        return (work for work in (self._left(stage) if given is None else given) if not self._is_done(work))

    def _begun(self, stage: Stage, given: Sequence[Work] | None) -> Iterator[Work]:
        """Yield what is to do; files that are written over count no more, from before that on."""
        for work in self._todo(stage, given):
            if stage.writes:
                self.ledger.void(work.record.key, stage.name)
            yield work

    def _left(self, stage: Stage) -> Iterator[Work]:
        """Yield the records that no earlier stage has dropped, with what the stage reads."""
        if stage is self.stages[0]:
            yield from (Work(stage, film) for film in self.films)
            return
        before = self.stages[: self.stages.index(stage)]
        for clip, said in self.clips:
            found = dict(self.findings(clip, said))
            found = {one.name: found[one.name] for one in before if one.name in found}
            if any(finding.verdict != "keep" for finding in found.values()):
                continue
            if missing := [name for name in stage.reads if name not in found]:
                told = f"stage {stage.name} reads {missing[0]}, which has not run with these settings"
                raise UserError(f"--stages: {told}; name it too, or name none")
            yield Work(stage, replace(clip, figures={name: found[name].figures for name in stage.reads}))

    def _is_done(self, work: Work) -> bool:
        line = self.ledger.get(work.record.key, work.stage.name, self.digests[work.stage.name])
        if line is None or (self.retry and line["verdict"] == "fail"):
            return False
        return all((self.context.output / file).is_file() for file in line["figures"].get("files", ()))

    def _clips_of(self, film: Record) -> list[tuple[Record, Finding]]:
        found = self.film_finding(film)
        return records_of(film, found.figures) if found is not None and found.verdict == "keep" else []

    def _limit(self, work: Work) -> float:
        return self.context.config.limit_seconds * max(1.0, work.record.seconds / 60)

    def _content_key(self, path: Path) -> str:
        """Hash of a file's content, which the ledger keeps while its time and size stay."""
        status = path.stat()
        digest = f"{status.st_size} {status.st_mtime_ns}"
        name = str(path.resolve())
        if (line := self.ledger.get(name, FILM, digest)) is None:
            content = hashlib.sha256()
            with path.open("rb") as file:
                while block := file.read(BLOCK):
                    content.update(block)
            self.ledger.append(name, FILM, digest, content=content.hexdigest()[:32])
            return content.hexdigest()[:32]
        return str(line["content"])


def _finding(line: dict[str, Any]) -> Finding:
    return Finding(line["verdict"], line["cause"], line["reason"], line["figures"])


def _work(context: Context, work: Work) -> Done | Refused:
    """Run a stage on a record in a child process; whatever it raises is a finding of its own, but a full disk."""
    start = time.monotonic()
    try:
        finding = work.stage.run(work.record, context)
    except Exception as error:  # one clip must not cost hours of others; it is in the ledger and in the report
        if why := stopping(error):
            return Refused(why)
        told = (
            str(error) if isinstance(error, UserError) else system_refusal(error) or f"{type(error).__name__}: {error}"
        )
        finding = Finding("fail", "refused" if isinstance(error, UserError) else "error", told)
    return Done(finding, time.monotonic() - start)


def stopping(error: BaseException | None) -> str:
    """Say why no other clip could be worked on either, or nothing: the disk is full, or cannot be written to."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in STOPPING:
            return system_refusal(error)
        error = error.__cause__
    return ""
