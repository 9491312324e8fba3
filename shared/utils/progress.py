"""Progress: a bar on a terminal; elsewhere a line after half a minute, and one whenever the time has doubled."""

import logging
import re
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from tqdm import tqdm

FIRST, LONGEST = 30.0, 3600.0  # s until the first line, and at most between two
LINE = "{desc}: {n_fmt}/{total_fmt} {unit}s, {elapsed}{postfix}"
#: Warnings of libraries that tell a user nothing to do, whole.
IDLE = (
    "Already found a `peft_config` attribute in the model. This will lead to having multiple adapters in the model. "
    "Make sure to know what you are doing!",
    "`torch.nn.utils.weight_norm` is deprecated in favor of `torch.nn.utils.parametrizations.weight_norm`.",
)
IDLE_LOG = ("Setting accelerator to CPU. If you have GPU or other accelerator, we were unable to detect it.",)


class Lines:
    """Stands for the file of a bar: of all that a bar draws it writes a line now and then, of a short one nothing."""

    def __init__(self, file: IO[str]) -> None:
        self.file, self.start, self.due = file, time.monotonic(), FIRST

    def write(self, text: str) -> None:
        """Write the state that a bar draws, if it is time."""
        line, seconds = text.strip(), time.monotonic() - self.start
        if line and seconds >= self.due:
            self.due = seconds + min(seconds, LONGEST)
            self.file.write(line + "\n")
            self.file.flush()

    def flush(self) -> None:
        """Do nothing: what is written is flushed already."""


def bar_options(file: IO[str] | None = None) -> dict[str, Any]:
    """Options of a tqdm that writes to `file` (default: stderr): none on a terminal."""
    file = sys.stderr if file is None else file
    return {"dynamic_ncols": True} if file.isatty() else {"file": Lines(file), "bar_format": LINE, "mininterval": 1.0}


def bar(*arguments: Any, **options: Any) -> Any:
    """Make a tqdm with `bar_options`."""
    return tqdm(*arguments, **(options | bar_options()))


@contextmanager
def without_idle_words() -> Iterator[None]:
    """Let libraries say nothing of `IDLE`, and DeepSpeed, which some import, nothing of `IDLE_LOG`."""
    deepspeed = logging.getLogger("DeepSpeed")

    def is_told(record: logging.LogRecord) -> bool:
        return record.getMessage() not in IDLE_LOG

    deepspeed.addFilter(is_told)
    try:
        with warnings.catch_warnings():
            for text in IDLE:
                warnings.filterwarnings("ignore", message=f"{re.escape(text)}$")
            yield
    finally:
        deepspeed.removeFilter(is_told)


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Let libraries draw no bars of what they load or save, unless on a terminal, and be `without_idle_words`."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    libraries: list[Any] = [] if sys.stderr.isatty() else [diffusers_logging, transformers_logging]
    quiet = [library for library in libraries if library.is_progress_bar_enabled()]
    with without_idle_words():
        for library in quiet:
            library.disable_progress_bar()
        try:
            yield
        finally:
            for library in quiet:
                library.enable_progress_bar()
