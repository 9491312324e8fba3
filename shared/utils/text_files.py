r"""Text that a user gives: the one reader of manifests, captions, prompts, JSON and YAML.

UTF-8, with or without a mark. A line ends in \n or \r\n and in nothing else: U+2028, U+0085, form feed, vertical tab
and a lone \r are characters of it. What cannot be read is one `UserError` with file, line and what would be right."""

from __future__ import annotations

import json
import logging
import os
import re
import stat
from pathlib import Path
from typing import Any

import yaml

from shared.utils.errors import UserError

LARGEST = 64 * 2**20  # bytes of a text file; of a manifest a GiB
LARGEST_YAML = 2**20  # bytes; YAML is read slowly
DEEPEST = 64  # objects and lists inside one another
MOST = 1_000_000  # values of one JSON or YAML text, aliases counted where they stand
MOST_OF_OURS = 200 * MOST  # of a file of ours that has a line for each clip
#: How a file in another encoding begins, the longest first.
MARKS = {
    b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16",
    b"\x1f\x8b": "gzip",
}  # fmt: skip
_COUNT = re.compile("[0-9]{1,18}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_log = logging.getLogger(__name__)


def is_file(path: Path) -> bool:
    """Whether there is a file at `path`. UserError for a name that no file can have."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:  # too long, with a NUL, links that lead to one another
        raise UserError(f"{shortened(path)}: {_why(error)}; give the path of a file") from None


def is_count(text: str) -> bool:
    """Whether a text is a whole number that is a count of anything."""
    return _COUNT.fullmatch(text) is not None


def shortened(text: object, most: int = 120) -> str:
    """Quote what may be as long as a file, or not printable."""
    line = str(text).encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    return line if len(line) <= most else f"{line[: most // 2]} ... {line[-most // 4 :]}"


def read_text(path: str | Path, name: str = "", most: int = LARGEST) -> str:
    """Read a file of at most `most` bytes, called `name` in errors (default: its path), without its mark."""
    name = name or shortened(path)
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{name}: is {'a folder' if stat.S_ISDIR(status.st_mode) else 'no file'}; give a text file")
        if status.st_size > most:
            size, limit = (f"{count / 2**20:.4g} MiB" for count in (status.st_size, most))
            raise UserError(f"{name}: has {size}; at most {limit} of text are read, divide it")
        content = Path(path).read_bytes()
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{name}: cannot be read (no such file)") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{name}: cannot be read ({_why(error)})") from None
    return _decoded(content, name)


def split_lines(text: str, name: str) -> list[str]:
    r"""Lines of a text; a lone \r in one, where an old editor ended lines, is warned of."""
    lines = text.replace("\r\n", "\n").split("\n")
    for number, line in enumerate(lines, start=1):
        if "\r" in line:
            told = r"holds a carriage return that ends no line; lines end in \n or \r\n"
            _log.warning("%s:%d: %s", name, number, told)
            break
    return lines[:-1] if lines[-1] == "" else lines


def parse_json(text: str, name: str, line: int = 1, most: int = MOST) -> Any:
    """Value of a JSON text that begins on `line` of `name`. UserError: not JSON, a key twice, NaN, a lone surrogate,
    a NUL, deeper than anything that is ours, or of more than `most` values."""
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise UserError(f"{name}:{line + error.lineno - 1}: not JSON ({error.msg}, column {error.colno})") from None
    except RecursionError:
        raise UserError(f"{name}:{line}: not JSON of ours (more than {DEEPEST} levels deep)") from None
    except ValueError as error:  # ours, or a number of thousands of digits
        raise UserError(f"{name}:{line}: not JSON of ours ({error})") from None
    if problem := _problem(value, most):
        raise UserError(f"{name}:{line}: {problem}")
    return value


def parse_yaml(text: str, name: str, wrong: str = "not valid yaml") -> Any:
    """Value of a YAML text. UserError, where `wrong` says what it is not: as `parse_json`, and for a text
    of more than `LARGEST_YAML`."""
    if len(text) > LARGEST_YAML:
        raise UserError(f"{name}: has {len(text)} characters; at most {LARGEST_YAML} of YAML are read")
    try:
        value = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{name}: {wrong} ({error.problem or error.context}{line})") from None
    except RecursionError:
        raise UserError(f"{name}: {wrong} (more than {DEEPEST} levels deep)") from None
    except yaml.reader.ReaderError as error:
        number = text.count("\n", 0, error.position) + 1
        raise UserError(f"{name}: {wrong} (a character \\x{error.character:02x}, line {number})") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{name}: {wrong} ({error})") from None
    if problem := _problem(value):
        raise UserError(f"{name}: {problem}")
    return value


class _Loader(yaml.SafeLoader):
    """YAML whose keys stand once, and whose merged keys (`<<`) do not multiply."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    raise _mistake(f"the key {key.value} stands twice", key)
                seen.add(key.value)
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > MOST // 100:
            raise _mistake("merged keys multiply", node)


def _mistake(what: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(None, None, what, node.start_mark)


def _decoded(content: bytes, name: str) -> str:
    for mark, encoding in MARKS.items():
        if content.startswith(mark):
            raise UserError(f"{name}: cannot be read, it is {encoding} and not UTF-8; save it as UTF-8 text")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[3 * content.startswith(b"\xef\xbb\xbf") :][: error.start]
        line, byte = before.count(b"\n") + 1, content[len(content) - len(error.object) + error.start]
        raise UserError(f"{name}:{line}: byte 0x{byte:02x} is not UTF-8; save it as UTF-8 text") from None
    if (at := text.find("\0")) >= 0:
        line = text.count("\n", 0, at) + 1
        raise UserError(f"{name}:{line}: holds a NUL character, so it is UTF-16 or no text; save it as UTF-8 text")
    return text


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice")
    return found


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")


def _problem(value: Any, most: int = MOST) -> str:
    """Name what no text of ours holds: a lone surrogate, a NUL, `most` values, `DEEPEST` levels; "" if nothing."""
    waiting, count = [(value, 1)], 0
    while waiting:
        one, depth = waiting.pop()
        count += 1
        if count > most:
            return f"holds more than {most} values"
        if isinstance(one, str):
            if found := _SURROGATE.search(one):
                return f"holds half of a character, \\u{ord(found[0]):x}, which no file can; write it whole"
            if "\0" in one:
                return "holds a NUL character (\\u0000); text is needed"
        elif isinstance(one, dict | list):
            if depth > DEEPEST:
                return f"is more than {DEEPEST} levels deep"
            inner = [*one.keys(), *one.values()] if isinstance(one, dict) else one
            if len(waiting) + len(inner) > most:
                return f"holds more than {most} values"
            waiting += [(part, depth + 1) for part in inner]
    return ""


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
