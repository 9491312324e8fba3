"""Clips that cannot be used: gathered, named together, and then refused or left out, as `data.on_bad_clip` says."""

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from shared.utils.errors import UserError
from shared.utils.files import write_atomically

MOST_NAMED = 20  # clips that one message names
LEFT_OUT_NAME = "left_out.jsonl"  # in OUTPUT: id and reason of every clip that is not used
Policy = Literal["refuse", "skip"]
Item = TypeVar("Item")
Result = TypeVar("Result")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Problem:
    """What is wrong with an entry of a manifest, or a record. `id`: the clip's or, without one, the line's number."""

    id: str
    message: str

    def __str__(self) -> str:
        return self.message


def refuse(problems: Sequence[Problem], count: int, advice: str = "") -> None:
    """Raise one UserError that names the first `MOST_NAMED` of the problems of `count` clips, if there are any."""
    if problems:
        named = "; ".join(problem.message for problem in problems[:MOST_NAMED])
        rest = len(problems) - MOST_NAMED
        more = f"; and {rest} more, which scripts/check_data.py names" if rest > 0 else ""
        raise UserError(f"{len(problems)} of {count} clips cannot be used: {named}{more}{advice}")


def settle(problems: Sequence[Problem], count: int, policy: Policy) -> None:
    """Refuse as `check_policy` does, or say what is skipped."""
    check_policy(problems, count, policy)
    tell_left_out(problems)


def check_policy(problems: Sequence[Problem], count: int, policy: Policy) -> None:
    """Refuse `problems` of `count` clips, unless they are to be skipped and then some clips are left."""
    if policy == "refuse":
        refuse(problems, count, "; data.on_bad_clip=skip trains without them")
    if len(problems) >= count:
        refuse(problems, count, "; no clip is left")


def tell_left_out(problems: Sequence[Problem]) -> None:
    """Warn of clips that are left out, the first of them one by one; one process of a run does."""
    if os.environ.get("RANK", "0") == "0":
        for problem in problems[:MOST_NAMED]:
            _log.warning("%s; it is left out", problem)
        if (rest := len(problems) - MOST_NAMED) > 0:
            _log.warning("%d more clips are left out", rest)


def tell_limit(key: str, problems: Sequence[Problem], count: int) -> None:
    """Name the configuration's `key` that leaves out some of `count` clips."""
    if problems and os.environ.get("RANK", "0") == "0":
        names = ", ".join(repr(problem.id) for problem in problems[:MOST_NAMED])
        more = ", ..." if len(problems) > MOST_NAMED else ""
        _log.warning("%s leaves out %d of %d clips: %s%s", key, len(problems), count, names, more)


def write_left_out(folder: Path, problems: Sequence[Problem]) -> None:
    """List all clips that are left out in FOLDER/left_out.jsonl; without any there is no such file."""
    lines = [json.dumps({"id": p.id, "reason": p.message}, ensure_ascii=False) + "\n" for p in problems]
    if lines:
        write_atomically(folder / LEFT_OUT_NAME, "".join(lines))
    else:
        (folder / LEFT_OUT_NAME).unlink(missing_ok=True)


@contextmanager
def noted(problems: list[Problem], name: str) -> Iterator[None]:
    """Add a UserError of the block to `problems` as that of clip `name`; the block ends there."""
    try:
        yield
    except UserError as error:
        problems.append(Problem(name, str(error) if f"clip {name!r}" in str(error) else f"clip {name!r}: {error}"))


def attempt(function: Callable[[Item], Result]) -> Callable[[Item], Result | UserError]:
    """Make `function` return its UserError, so that a thread can hand it on and go on with the next item."""

    def tried(item: Item) -> Result | UserError:
        try:
            return function(item)
        except UserError as error:
            return error

    return tried
