"""Files in object stores (s3://, gs://, http:// ...), through fsspec: ranges kept on disk, lost connections retried.

What is kept is a file for each range that was read. fsspec's own caching file systems are not used: one that keeps
blocks or whole files takes what a lost connection cut short for whole, and reads it again from the disk.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from shared.utils.errors import UserError
from shared.utils.files import replacing

#: Seconds before a file is asked for again.
WAITS = (1.0, 4.0, 15.0, 60.0)
#: Packages that fsspec wants beside itself; the others it names.
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "http": "aiohttp", "https": "aiohttp"}
#: What is no matter of the connection: asking again gives the same.
_LASTING = (FileNotFoundError, IsADirectoryError, UserError)
_THREADS = 16  # that fetch the files of a list
_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class ObjectPath:
    """A file or folder in an object store, by its URL; with what shards and manifests need of `pathlib.Path`.

    All that reads or writes raises FileNotFoundError where there is none, and UserError if the package of the store is
    missing, it refuses, or a connection is lost more often than it is asked again (`WAITS`); each time is told.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> ObjectPath:
        return ObjectPath(f"{self.url.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        return self.url.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> ObjectPath:
        return ObjectPath(self.url.rstrip("/").rpartition("/")[0])

    def with_suffix(self, suffix: str) -> ObjectPath:
        return self.parent / Path(self.name).with_suffix(suffix).name

    def is_file(self) -> bool:
        return self._asked("isfile")

    def size(self) -> int:
        """Bytes of the file; -1 where there is none, or the store does not say."""
        try:
            size = self._asked("size")
        except FileNotFoundError:
            return -1
        return -1 if size is None else size

    def download(self, path: Path) -> None:
        """Copy the file to `path`, which is there when it is whole."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            self._asked("get_file", str(part))

    def upload(self, path: Path) -> None:
        """Put the file at `path` here, in place of what is here; a store has the whole of it, or nothing."""
        self._asked("put_file", path=str(path))

    def remove(self) -> None:
        """Take the file away, if it is there."""
        if self.is_file():
            self._asked("rm_file")

    def read(self, start: int, count: int, is_right: Callable[[bytes], bool]) -> bytes:
        """Bytes from `start` on, fewer where the file ends before; from the disk, if what is kept there `is_right`.

        Only what `is_right` is kept. UserError for a server that gives other bytes than those it is asked for.
        """
        key = hashlib.sha256(f"{self.url} {start} {count}".encode()).hexdigest()
        kept = cache_folder() / key[:2] / key
        if kept.is_file() and is_right(content := kept.read_bytes()):
            return content
        content = self._asked("cat_file", start=start, end=start + count)
        if len(content) > count:
            what = f"{len(content)} bytes came where {count} were asked for"
            raise UserError(f"{self.url}: {what}; a server that answers range requests is needed")
        if is_right(content):
            try:
                kept.parent.mkdir(parents=True, exist_ok=True)
                with replacing(kept) as part:
                    part.write_bytes(content)
            except OSError as error:
                _tell_unkept(str(error.strerror))
        return content

    def _asked(self, method: str, *given: Any, path: str | None = None, **more: Any) -> Any:
        """Call a method of the store's file system for this file, or for `path` and this file."""

        def ask() -> Any:
            system, name = _opened(self.url)
            return getattr(system, method)(*([name] if path is None else [path, name]), *given, **more)

        return retried(self.url, ask)


class Ahead:
    """What threads fetch before it is asked for. Whatever they meet with, who asks meets with it again."""

    def __init__(self) -> None:
        self._futures: dict[str, Future[Any]] = {}
        self._pool: ThreadPoolExecutor | None = None

    def keep(self, names: Collection[str]) -> None:
        """Forget what is done and is none of these."""
        self._futures = {name: f for name, f in self._futures.items() if name in names or not f.done()}

    def fetch(self, name: str, ask: Callable[[], object]) -> None:
        """Let a thread `ask`, once for each name that is kept."""
        if name not in self._futures:
            self._pool = self._pool or ThreadPoolExecutor(_THREADS)
            self._futures[name] = self._pool.submit(ask)

    def wait(self, name: str) -> None:
        """Return when what was begun for `name` is done."""
        if future := self._futures.get(name):
            wait([future])


#: Where shards and manifests lie.
Place = Path | ObjectPath


def place(text: str | Path | ObjectPath) -> Place:
    """Path of what lies here, `ObjectPath` of a URL; file:// is here."""
    if isinstance(text, ObjectPath):
        return text
    if "://" not in str(text):
        return Path(text)
    return Path(str(text).removeprefix("file://")) if str(text).startswith("file://") else ObjectPath(str(text))


def object_path(option: str, url: str | None) -> ObjectPath | None:
    """Folder in an object store that `option` names, if it does. UserError for what is here, or no store knows."""
    if url is None:
        return None
    there = place(url)
    if not isinstance(there, ObjectPath):
        raise UserError(f"{option} {url}: the URL of a folder in an object store, as s3://bucket/latents, is needed")
    _opened(url)
    return there


def cache_folder() -> Path:
    """Folder of what is kept of object stores: CCL_CACHE of the environment, or one in the home folder."""
    return Path(os.environ.get("CCL_CACHE") or Path.home() / ".cache" / "ccl" / "objects")


@contextmanager
def local_copy(file: Place) -> Iterator[Path]:
    """Path of the file itself or, for as long as the block lasts, of a copy of it. FileNotFoundError if it is gone."""
    if isinstance(file, Path):
        yield file
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / file.name
        file.download(copy)
        yield copy


def fetch_all(files: dict[Path, ObjectPath]) -> dict[Path, UserError | FileNotFoundError]:
    """Download the files whose local paths are not there yet, several at once; by path, what cannot be had, and why."""

    def fetch(path: Path) -> UserError | FileNotFoundError | None:
        try:
            if not path.is_file():
                files[path].download(path)
        except (UserError, FileNotFoundError) as error:
            return error
        return None

    with ThreadPoolExecutor(_THREADS) as pool:
        return {path: error for path, error in zip(files, pool.map(fetch, files), strict=True) if error is not None}


def retried(what: str, ask: Callable[[], T]) -> T:
    """Return `ask()`; a connection that is lost is told, and asked again after `WAITS`. UserError in the end."""
    for seconds in (*WAITS, None):
        try:
            return ask()
        except _LASTING:
            raise
        except Exception as error:  # each store has errors of its own, most of them no OSError
            status = getattr(error, "status", None)
            if isinstance(error, PermissionError | NotImplementedError) or status in (401, 403):
                why = f"{type(error).__name__}: {error}"[:200].rstrip(": ")
                raise UserError(f"{what}: the store refuses ({why}); see your rights and credentials there") from None
            if status == 416:  # a range that begins where the file has ended
                return b""  # type: ignore[return-value]
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            reason = f"{type(error).__name__}: {error}"[:200].rstrip(": ")
            if seconds is None:
                advice = "see that it can be reached, and run the same command again"
                raise UserError(
                    f"{what}: cannot be reached ({reason}), tried {len(WAITS) + 1} times; {advice}"
                ) from None
            _log.warning("%s: connection lost (%s); trying again in %g s", what, reason, seconds)
            time.sleep(seconds)
    raise AssertionError


_told = set[str]()


def _tell_unkept(reason: str) -> None:
    if reason not in _told:
        _told.add(reason)
        _log.warning("%s: what is read is not kept (%s); make room, or set CCL_CACHE", cache_folder(), reason)


def _opened(url: str) -> tuple[Any, str]:
    """File system of a URL, and the name there. UserError if its package is not installed, or none knows it."""
    import fsspec

    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        protocol = url.partition("://")[0]
        needed = f"the package {_PACKAGES[protocol]}" if protocol in _PACKAGES else str(error)
        raise UserError(f"{url}: needs {needed}, which is not installed; install it") from None
    except ValueError as error:
        raise UserError(f"{url}: {error}; s3://, gs://, http:// or another that fsspec knows is needed") from None
