"""The file of a typed configuration: read, changed by `--set key=value`, and its mistakes told in one line."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from shared.utils.errors import UserError
from shared.utils.text_files import is_file, parse_json, parse_yaml, read_text, shortened

#: An end of a range that only stops what cannot be meant, and is not told.
FAR = 1_000_000_000
#: Keys that may name a file, whose content takes their place.
INLINED = ("model", "deepspeed", "control")


def read(file: Path, overrides: list[str]) -> dict[str, Any]:
    """Keys and values of a YAML file, and of the files it names, after `overrides` ("train.steps=40") in order."""
    raw = _inline(_read(file), file)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise UserError(f"--set {override}: expected key=value, for example train.steps=40")
        put(raw, key, parse_yaml(text, f"--set {shortened(override)}", "the value is not YAML"))
        raw = _inline(raw, file)
    return raw


def explain(error: ValidationError, file: Path, kind: type[BaseModel]) -> str:
    """First mistake in one line: the file, the key, and for an unknown one the nearest key of `kind`."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if part != "[key]")
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, [name for name, _ in keys(kind)], n=1, cutoff=0)
        return f"{file}: unknown key {key}; the nearest known key is {near[0]}"
    if first["type"] == "value_error":
        return f"{file}: {first['ctx']['error']}"
    if first["type"] == "missing":
        return f"{file}: {key} is missing"
    return f"{file}: {key} = {first['input']!r}: {first['msg']}{told_range(kind, first['loc'])}"


def told_range(kind: type[BaseModel], place: Sequence[int | str]) -> str:
    """Say what values the field of `kind` at `place` of an error takes, "; number above 0 to 240", where that has an
    end; "" for any other."""
    name, *rest = place
    if (field := kind.model_fields.get(str(name))) is None:
        return ""
    inner = [part for part in rest if isinstance(part, str)]
    if (section := section_of(field)) and inner:
        return told_range(section, inner)
    words = values_of(kind.model_json_schema()["properties"][field.alias or name])
    return f"; it is {words}" if re.search(r" (from|above|to|below) ", words) else ""


def values_of(entry: Mapping[str, Any]) -> str:
    """Words for what a key may hold, of its JSON schema."""
    if "anyOf" in entry:
        return " or ".join(map(values_of, entry["anyOf"]))
    if "enum" in entry:
        return " or ".join(map(str, entry["enum"]))
    if "prefixItems" in entry:
        return f"[{', '.join(map(values_of, entry['prefixItems']))}]"
    if "type" not in entry:
        return "a value"
    if entry["type"] == "array":
        choices = entry.get("items", {}).get("enum")
        return f"some of {', '.join(choices)}" if choices else f"list of {values_of(entry.get('items', {}))}"
    if isinstance(inner := entry.get("additionalProperties"), dict):
        return f"by name: {values_of(inner)}"
    names = {"string": "text", "integer": "whole number", "boolean": "true or false", "object": "keys and values"}
    limits = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    said = [f"{word} {_number(entry[key])}" for key, word in limits.items() if abs(entry.get(key, FAR)) < FAR]
    return " ".join([names.get(entry["type"], entry["type"]), *said])


def _number(value: float) -> str:
    return f"{value:,}".replace(",", " ").removesuffix(".0")


def keys(kind: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every dotted key of a configuration and its field; a section's own keys follow it."""
    for name, field in kind.model_fields.items():
        yield prefix + name, field
        if section := section_of(field):
            yield from keys(section, f"{prefix}{name}.")


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """Section that a key holds, or holds a list of; None for a plain value."""
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _read(file: Path) -> dict[str, Any]:
    if not is_file(file):
        reason = "a folder" if file.is_dir() else "no such file"
        raise UserError(f"{file}: cannot read this configuration file ({reason})")
    parse = parse_json if file.suffix == ".json" else parse_yaml
    content = parse(read_text(file), str(file))
    if not isinstance(content, dict):
        raise UserError(f"{file}: expected keys and values, found {type(content).__name__}")
    if odd := [key for key in content if not isinstance(key, str)]:
        raise UserError(f"{file}: the key {odd[0]!r} is no name; quote it if it is meant")
    return content


def _inline(raw: dict[str, Any], file: Path) -> dict[str, Any]:
    for key in INLINED:
        if isinstance(name := raw.get(key), str):
            sources = [path for path in (Path(name), *(up / name for up in file.resolve().parents)) if is_file(path)]
            if not sources:
                raise UserError(f"{key}: {name}: no such file, from the working directory or from {file}")
            raw[key] = _read(sources[0])
    return raw


def put(raw: dict[str, Any], key: str, value: Any, where: str = "--set") -> None:
    """Set a dotted key of nested keys. UserError, which names `where`, for one below a plain value, or no entry of a
    list."""
    *parents, last = key.split(".")
    node: Any = raw
    for parent in parents:
        node = node[_index(node, parent, f"{where} {key}")] if isinstance(node, list) else node.setdefault(parent, {})
        if not isinstance(node, dict | list):
            raise UserError(f"{where} {key}: {parent} has no keys of its own; set {key.rsplit('.', 1)[0]} as a whole")
    node[_index(node, last, f"{where} {key}") if isinstance(node, list) else last] = value


def _index(items: list[Any], number: str, key: str) -> int:
    if not number.isdigit() or int(number) >= len(items):
        raise UserError(f"{key}: {number} is none of the list's entries 0 to {len(items) - 1}")
    return int(number)
