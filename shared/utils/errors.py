"""One way to refuse bad input: one clear line, exit code 2, no traceback."""

import sys
from collections.abc import Callable, Sequence


class UserError(ValueError):
    """Something the user gave is wrong. The message says what, where, and what would be right."""


def torchaudio_cure(error: Exception) -> str:
    """Say what to do if `error` comes from torchaudio's compiled part, which needs CUDA; nothing if it does not."""
    what = "torchaudio cannot be loaded, because its compiled part wants CUDA and torch is a CPU build; "
    return what + "run: python -m shared.utils.environment" if "libtorchaudio" in str(error) else ""


def exit_for_failed_clips(failed: Sequence[tuple[str, str]], count: int, result: str) -> None:
    """Tell ids and reasons of the clips that failed, of `count`; if any did, exit with code 1. `result` lacks them."""
    for clip, reason in failed:
        print(f"failed: clip {clip!r}: {reason}", file=sys.stderr)
    if failed:
        print(f"{len(failed)} of {count} clips failed; the {result} without them", file=sys.stderr)
        sys.exit(1)


def run_main(main: Callable[[], None]) -> None:
    """Run a script's `main`; a `UserError` becomes one line on stderr and exit code 2."""
    try:
        main()
    except (UserError, OSError, RuntimeError) as error:
        line = str(error) if isinstance(error, UserError) else torchaudio_cure(error)
        if not line:
            raise
        print(f"error: {' '.join(line.split())}", file=sys.stderr)
        sys.exit(2)
