"""The texts say what the code says: error messages, commands and their options, files."""

from __future__ import annotations

import ast
import re
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from shared.utils import cli

ROOT = Path(__file__).parents[1]
TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: Headings of troubleshooting.md that quote other programs.
FOREIGN = ("command not found", "No module named", "libtorchaudio", "EADDRINUSE")


def templates(path: Path) -> set[str]:
    """Every text in a source file; what is filled in stands as …"""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
        if isinstance(node, ast.JoinedStr):
            found.add("".join(v.value if isinstance(v, ast.Constant) else "…" for v in node.values))
    return found


def test_troubleshooting_quotes_the_code() -> None:
    sources = [p for d in ("ccl", "mtv", "shared", "scripts") for p in (ROOT / d).rglob("*.py")]
    said = {text for path in sources for text in templates(path)}
    said.add((ROOT / "Makefile").read_text(encoding="utf-8"))
    quoted = re.findall(r"\*\*`([^`]+)`\*\*", (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8"))
    ours = [text for text in quoted if not any(name in text for name in FOREIGN)]
    # "…: " in front and a "…" behind may stand for less than the whole message
    missing = [text for text in ours if not any(text.removeprefix("…").removesuffix("…") in one for one in said)]
    assert len(ours) > 50 and not missing


@cache
def flags(script: str) -> set[str]:
    """Every option of a script whose options are models, with those of its commands."""
    kinds = [kind for kind in vars(import_module(f"scripts.{script}")).values() if isinstance(kind, type)]
    models = [kind for kind in kinds if issubclass(kind, cli.Options)]
    named = {cli._flag(name, field) for model in models for name, field in model.model_fields.items()}
    return named | {flag.replace("--", "--no-", 1) for flag in named}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_commands_have_their_options(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    for script, rest in re.findall(r"(scripts/\w+\.py)([^\n`#]*)", text):
        source = (ROOT / script).read_text(encoding="utf-8")
        for option in re.findall(r"(?<!\S)--[a-z][a-z-]+", rest):
            known = f'"{option}"' in source or option in flags(Path(script).stem)
            assert known, f"{path.name}: {script} has no {option}"


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        linked = path.parent / file if file else path
        assert linked.exists(), f"{path.name}: {target}"
        headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.M) if anchor else []
        anchors = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
        assert not anchor or anchor in anchors, f"{path.name}: {target}"
