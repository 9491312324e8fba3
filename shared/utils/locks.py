"""Locks that the kernel keeps: nothing of them is left when the process that holds one ends, however it ends."""

import errno
import fcntl
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shared.utils.errors import UserError

LOCK_NAME = ".lock"
#: What a program that makes data does to its folder, and what another one is advised to do.
FILLS = "fills this folder", "let it end, or give another folder"
#: What file systems without locks answer.
UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
_OWNER = re.compile(rb"(process \d+ on [^\n]*)?")
_held: set[int] = set()  # descriptors


@contextmanager
def locked(file: Path, does: str, advice: str = "", wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the lock `file`, which is made and removed. Who holds it already is named in a UserError ("process 7 on host
    `does`; `advice`"), or told to `wait` and waited for. UserError too where there are no locks."""
    made = [folder for folder in file.parents if not folder.exists()]
    descriptor = _taken(file, does, advice, wait)
    try:
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        if descriptor in _held:  # not in a process that was forked meanwhile
            file.unlink(missing_ok=True)
            release(descriptor)
            with suppress(OSError):  # folders that nothing was written to
                for folder in made:
                    folder.rmdir()


def _taken(file: Path, does: str, advice: str, wait: Callable[[str], None] | None) -> int:
    while True:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            why = f"{file.parent}: cannot be made ({error.strerror})"
            raise UserError(f"{why}; give another folder") from None
        try:
            if not try_lock(descriptor):
                with open(file, encoding="utf-8", errors="replace") as text:
                    who = text.read().strip() or "another process"
                if wait is None:
                    raise UserError(f"{file.parent}: {who} {does}; {advice}")
                wait(who)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_at(descriptor, file):
                _held.add(descriptor)
                return descriptor
        except OSError as error:
            os.close(descriptor)
            why = f"{file.parent}: its file system keeps no locks ({error.strerror})"
            raise UserError(f"{why}, which keep two runs apart; give a folder on another") from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # who had it has removed the file: lock the new one


def try_lock(descriptor: int) -> bool:
    """Lock an open file, if no other process has. OSError where there are no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def workplace(folder: Path) -> Iterator[int]:
    """Make `folder` and hold it while something is written in it, so that `remove_left_over` leaves it alone; it goes
    with all in it when the block ends. What is held is a lock of its own: libraries rename files of theirs over what
    they were told to write. Gives the mode of new files."""
    lock = folder / LOCK_NAME
    while True:
        with suppress(FileExistsError):
            folder.mkdir()
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:  # another process took it for a leftover before it was held
            continue
        with suppress(OSError):  # without locks nobody takes it for a leftover either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_at(descriptor, lock):
            break
        os.close(descriptor)
    _held.add(descriptor)
    try:
        yield os.fstat(descriptor).st_mode & 0o777
    finally:
        if descriptor in _held:  # not in a process that was forked meanwhile
            shutil.rmtree(folder, ignore_errors=True)
            release(descriptor)


def remove_left_over(path: Path) -> None:
    """Remove a `workplace`, or a lock, unless a process has it: the one that made it was killed. It is held while it
    goes, so that who waits for it sees that it has gone."""
    is_folder = path.is_dir()
    lock, flags = (path / LOCK_NAME, os.O_CREAT) if is_folder else (path, 0)
    with suppress(OSError):  # gone, or on a file system without locks
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC | flags, 0o666)
        try:
            if try_lock(descriptor) and _is_at(descriptor, lock):
                shutil.rmtree(path) if is_folder else path.unlink()
        finally:
            os.close(descriptor)


def is_lock(file: Path) -> bool:
    """Whether `locked` made a file, by what it holds: who took it, or nothing yet."""
    with suppress(OSError), open(file, "rb") as content:
        return _OWNER.fullmatch(content.read(400)) is not None
    return False


def release(descriptor: int) -> None:
    """Let go of a lock."""
    if descriptor in _held:
        _held.discard(descriptor)
        os.close(descriptor)


def _is_at(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(file))
    except FileNotFoundError:
        return False


def _forget() -> None:
    """In a forked process: a lock that it inherits would outlive the one that took it."""
    for descriptor in list(_held):
        release(descriptor)


os.register_at_fork(after_in_child=_forget)
