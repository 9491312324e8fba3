"""One way to refuse bad input: one clear line, exit code 2, no traceback."""

import errno
import os
import re
import sys
from collections.abc import Callable, Sequence

from shared.utils.signals import Stopped, StopRequest


class UserError(ValueError):
    """Something the user gave is wrong. The message says what, where, and what would be right."""


class EveryRanksError(UserError):
    """A `UserError` that every process of a run raises alike: the first one tells it for all."""


#: What the system may refuse, and what to do then.
ADVICE = {
    errno.ENOSPC: "make room, and run the same command again",
    errno.EDQUOT: "make room, and run the same command again",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EROFS: "give a place that can be written to",
    errno.EACCES: "give a place that may be read and written",
    errno.EPERM: "give a place that may be read and written",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "raise the system's limit on open files",
    errno.ENOTDIR: "a file is in the place of a folder; give another path",
    errno.EISDIR: "a folder is in the place of a file; give another path",
    errno.EEXIST: "a file is in the place of a folder; give another path",
    errno.ENAMETOOLONG: "give a shorter path",
    errno.ENOMEM: "free memory, or ask for less",
}
TOLD_BY_LIBRARIES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
#: Words of libraries that tell of a refusal of the system in exceptions of their own (torch.save, safetensors).
_TORCH_WRITES = re.compile(
    r"PytorchStreamWriter failed writing|unexpected pos \d+ vs|file write failed|basic_ios::clear"
)
_PART = re.compile(r"\.([^/]+)\.\d+\.\d+\.part(/.*)?$")  # a file before it has its name (shared.utils.files.replacing)
_RUST = re.compile(r"\(os error (\d+)\)")
#: What is left of a run when another of its processes has ended.
_LOST = re.compile(r"Connection (closed|reset) by peer|Broken pipe|Connection was likely closed|recvValue failed", re.I)
_GLOO = re.compile(r"gloo|ProcessGroup|TCPStore", re.I)


def torchaudio_cure(error: Exception) -> str:
    """Say what to do if `error` comes from torchaudio's compiled part, which needs CUDA; nothing if it does not."""
    what = "torchaudio cannot be loaded, because its compiled part wants CUDA and torch is a CPU build; "
    return what + "run: python -m shared.utils.environment" if "libtorchaudio" in str(error) else ""


def system_refusal(error: BaseException, name_file: bool = True) -> str:
    """Say what the system refused and what to do, whichever library tells of it; nothing for an error of another kind.
    Disk full, read-only, too many open files, no memory, nobody who reads. `name_file`: with the path, if it is known.
    """
    text = " ".join(str(error).split())
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (rust := _RUST.search(text)):
        number = int(rust[1])
    if number is None:
        named = (known for known in TOLD_BY_LIBRARIES if os.strerror(known) in text)
        number = errno.ENOSPC if _TORCH_WRITES.search(text) else next(named, None)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in text:
        return f"not enough memory ({text or 'MemoryError'}); free some, or ask for smaller batches, sizes or durations"
    if isinstance(error, RecursionError):
        return f"too deeply nested ({text}); a file with fewer levels is needed"
    if isinstance(error, BrokenPipeError) and error.filename is None:
        return "stdout: what was printed could not be written (Broken pipe): its reader has ended; read all of it"
    if number is not None:
        where = getattr(error, "filename", None) if name_file else None
        where = _PART.sub(r"\1", os.fsdecode(where)) if isinstance(where, str | bytes | os.PathLike) else ""
        why = os.strerror(number) if where or not isinstance(error, OSError) else error.strerror or text
        advice = f"; {ADVICE[number]}" if number in ADVICE else ""
        return f"{where and f'{where}: '}{why}{advice}"
    if isinstance(error, RuntimeError) and _LOST.search(text) and _GLOO.search(text):
        return "another process of this run has ended; what it says itself is the reason"
    return text or type(error).__name__ if isinstance(error, OSError) else ""


def exit_for_failed_clips(failed: Sequence[tuple[str, str]], count: int, result: str) -> None:
    """Tell ids and reasons of the clips that failed, of `count`; if any did, exit with code 1. `result` lacks them."""
    for clip, reason in failed:
        print(f"failed: clip {clip!r}: {reason}", file=sys.stderr)
    if failed:
        print(f"{len(failed)} of {count} clips failed; the {result} without them", file=sys.stderr)
        sys.exit(1)


def run_main(main: Callable[[], None]) -> None:
    """Run a script's `main`. A `UserError`, and what the system refuses, become one line on stderr and exit code 2; a
    signal that asks to stop, one line and 128 + its number. Other exceptions are faults of ours, with their traceback.
    """
    try:
        with (request := StopRequest()).listening(), request.at_once():
            _flushed(main)
    except KeyboardInterrupt as stop:
        told = stop if isinstance(stop, Stopped) else Stopped(2)
        _end(str(told), told.code, everywhere=bool(told.kept))
    except Exception as error:
        line = str(error) if isinstance(error, UserError) else torchaudio_cure(error) or system_refusal(error)
        if not line:
            raise
        _end(f"error: {line}", 2, everywhere=isinstance(error, EveryRanksError))


def _flushed(main: Callable[[], None]) -> None:
    """Run `main`; what it printed cannot fail later, where Python would tell of it at its end, in its own words."""
    try:
        main()
    except SystemExit:
        _flush()
        raise
    _flush()


def _flush() -> None:
    if sys.stdout is not None:  # as it is where a program was started with it closed
        sys.stdout.flush()


def _end(line: str, code: int, everywhere: bool) -> None:
    """Print `line` on stderr, on rank 0 alone where it is said `everywhere`, and exit with `code`."""
    try:
        _flush()
    except OSError:  # it would fail once more when the interpreter ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not everywhere or os.environ.get("RANK", "0") == "0":
        print(" ".join(line.split()), file=sys.stderr)
    sys.exit(code)
