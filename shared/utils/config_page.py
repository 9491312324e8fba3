"""Markdown tables of a configuration's keys, made of the schema's own descriptions (docs/configuration.md)."""

import inspect
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from shared.utils.config_file import section_of, values_of
from shared.utils.markdown import markdown_table


def key_tables(kind: type[BaseModel], keys: Collection[str] | None = None) -> str:
    """Table of the keys of a configuration (only `keys`), then one of each section's, under a heading of its own."""
    schema = kind.model_json_schema()
    sections = {name: section_of(field) for name, field in kind.model_fields.items() if keys is None or name in keys}
    parts = [_table(_key_row(name, schema, section) for name, section in sections.items())]
    for name, section in sections.items():
        if section:
            parts.append(f"## {name}\n\n{_about(section)}\n\n{key_tables(section)}")
    return "\n".join(parts)


def argument_table(kind: type, title: str = "Args:") -> str:
    """Table of what a class takes, made of the part `title` of its docstring; what that leaves out is left out."""
    arguments = inspect.signature(kind).parameters.items()
    defaults = {name: "" if given.default is given.empty else _yaml(given.default) for name, given in arguments}
    block = re.search(rf"^{title}\n((?:(?:    .*)?\n)*)", inspect.cleandoc(kind.__doc__ or "") + "\n", re.M)
    rows = []
    for entry in re.split(r"\n    (?=\w)", "\n" + block[1].rstrip()) if block else []:
        words, colon, text = entry.partition(": ")
        if colon:
            names = words.strip().split(", ")
            given = ", ".join(filter(None, map(defaults.__getitem__, names)))
            rows.append((", ".join(f"`{name}`" for name in names), "", given, " ".join(text.split())))
    return _table(rows)


def _about(section: type[BaseModel]) -> str:
    return " ".join((section.__doc__ or "").split())


def _key_row(name: str, schema: Mapping[str, Any], section: type[BaseModel] | None) -> tuple[str, str, str, str]:
    entry = schema["properties"][name]
    if section:
        kind = "a list of sections" if entry.get("type") == "array" else "a section"
        default = _yaml(entry["default"]) if entry.get("default") in (None, []) and "default" in entry else ""
        return f"`{name}`", kind, default, f"[{entry.get('description', _about(section))}](#{name})"
    if "description" not in entry:
        raise ValueError(f"{schema['title']}.{name} has no description; the page of keys is made of them")
    needed = name in schema.get("required", [])
    return f"`{name}`", values_of(entry), "needed" if needed else _yaml(entry["default"]), entry["description"]


def _table(rows: Iterable[tuple[str, str, str, str]]) -> str:
    return markdown_table(["key", "values", "default", "meaning"], rows).replace("  ", " ")


def _yaml(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000)
    return text.removesuffix("...\n").strip()
