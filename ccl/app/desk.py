"""What the page's tabs share: the queue, the models, and each user's folder, job and clips. No Gradio."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

from ccl.app.jobs import Job, JobQueue, Update, failed
from ccl.app.players import MadeClip
from ccl.app.shelf import Shelf

Work = Callable[[Job], None]


@dataclass
class Session:
    """One user's open page: a folder that nobody else can name, the job of each tab, and the clips that were made,
    with the texts that they were made from, by caption."""

    folder: Path
    jobs: dict[str, Job] = field(default_factory=dict)
    clips: dict[str, tuple[Path, str]] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)  # by tab, what it goes on from
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def new_folder(self, what: str) -> Path:
        """Make a folder for the files of one job."""
        folder = self.folder / f"{what}_{next(self._numbers)}"
        folder.mkdir(parents=True)
        return folder

    def remember(self, clip: MadeClip, prompt: str) -> None:
        """Keep a clip, so that the tab Look can have it."""
        self.clips[f"{clip.file.parent.name}: {clip.caption}"] = (clip.file, prompt)

    def close(self) -> None:
        """Cancel what runs, and remove the files."""
        for job in self.jobs.values():
            job.cancel()
        shutil.rmtree(self.folder, ignore_errors=True)


class Desk:
    """The page's one queue, its models, and its users by the number of their session; files are below `folder`."""

    def __init__(self, shelf: Shelf, folder: Path) -> None:
        self.shelf, self.folder, self.queue = shelf, folder, JobQueue()
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def session(self, number: str | None) -> Session:
        """Find a user's session, or begin it."""
        with self._lock:
            key = number or ""
            if key not in self._sessions:
                self._sessions[key] = Session(self.folder / uuid4().hex)
            return self._sessions[key]

    def follow(self, session: Session, tab: str, prepare: Callable[[], Work]) -> Iterator[Update]:
        """Check what was given by `prepare`, which raises UserError, and run the work that it returns as the tab's job;
        yields what is to be told, at last that it has ended. Where nobody listens any longer the job is cancelled."""
        try:
            job = self.queue.submit(prepare())
        except Exception as error:
            yield failed(error)
            return
        session.jobs[tab] = job
        try:
            yield from job.updates()
        finally:
            job.cancel()

    def cancel(self, session: Session, tab: str) -> None:
        """Cancel the job of a tab, if there is one."""
        if tab in session.jobs:
            session.jobs[tab].cancel()

    def leave(self, number: str | None) -> None:
        """End a user's session: the page was closed."""
        with self._lock:
            session = self._sessions.pop(number or "", None)
        if session is not None:
            session.close()

    def close(self) -> None:
        """End everything."""
        self.queue.close()
        for number in list(self._sessions):
            self.leave(number)
