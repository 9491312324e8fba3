"""The texts say what the code says: errors, commands with options and files, links, names, the map of the tree."""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from pathlib import Path

import pytest
from commands import ROOT, commands, help_text, lines, subcommands

from shared.encoders.text import words_of
from shared.utils.config import TrainConfig
from shared.utils.config_file import keys

TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
#: Headings of troubleshooting.md that quote other programs.
FOREIGN = ("command not found", "No module named", "libtorchaudio", "EADDRINUSE")
#: Where git keeps nothing: what stands there was made by a command.
MADE = ("data/", "outputs/", "models/")
by_page = pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))


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


@by_page
def test_commands_have_their_options(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    for script, rest in re.findall(r"scripts/(\w+)\.py([^\n`#|;]*)", text):
        command = next((word for word in rest.split()[:1] if word in subcommands(script)), "")
        for option in re.findall(r"(?<!\S)--[a-z][a-z0-9-]*", rest):
            help_of_it = help_text(script, command)
            assert re.search(rf"(?<!\S){option}(?![\w-])", help_of_it), f"{path.name}: {script} has no {option}"


@by_page
def test_commands_read_what_is_there(path: Path) -> None:
    """Files are in the repository, or made by a command above; my_ names, capitals and URLs are the reader's."""
    made: list[str] = []
    for command in commands(path.read_text(encoding="utf-8")):
        for name in command.reads:
            own = re.match(r"my_|[A-Z_]+(/|$)|\w+://", name)
            there = not name.startswith(MADE) and (ROOT / name).exists()
            above = any(name.rstrip("/") == one or name.startswith(one.rstrip("/") + "/") for one in made)
            assert own or there or above, f"{path.name}: {name} is not there for: {' '.join(command.words)}"
        made += command.writes


@by_page
def test_modules_that_are_run_exist(path: Path) -> None:
    for line in lines(path.read_text(encoding="utf-8")):
        for module in re.findall(r"python -m ((?:shared|ccl|mtv)[\w.]+)", line):
            assert (ROOT / (module.replace(".", "/") + ".py")).is_file(), f"{path.name}: {module}"


@by_page
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        linked = path.parent / file if file else path
        assert linked.exists(), f"{path.name}: {target}"
        headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.M) if anchor else []
        anchors = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
        assert not anchor or anchor in anchors, f"{path.name}: {target}"


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    pages = [path.name for path in (ROOT / "docs").iterdir() if path.suffix in (".md", ".ipynb")]
    assert [name for name in pages if name != "README.md" and f"]({name})" not in index] == []


def test_the_map_is_the_tree() -> None:
    """Every name of the map in design.md exists; every room is on it, and every file of `ccl` and `mtv` themselves."""
    design = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    block = re.search(r"```\n(ccl/\n.*?)```", design, re.S)
    assert block
    named, folder = set(), ""
    for line in block[1].splitlines():
        if head := re.match(r"(\w+)/(\s|$)", line):
            folder = head[1]
            named.add(folder)
        elif entries := re.match(r"  ([\w./]+(?:, [\w./]+)*)(  |$)", line):
            named |= {f"{folder}/{name.rstrip('/')}" for name in entries[1].split(", ")}
    assert [name for name in named if not (ROOT / name).exists()] == []
    rooms = {str(p.parent.relative_to(ROOT)) for d in ("ccl", "mtv", "shared") for p in (ROOT / d).rglob("__init__.py")}
    files = {str(p.relative_to(ROOT)) for d in ("ccl", "mtv") for p in (ROOT / d).glob("[!_]*.py")}
    assert sorted((rooms | files) - named) == []


@cache
def definitions(path: Path) -> set[str]:
    """The functions and classes of a file, methods as `Class.method`, and the names it assigns at the top."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
            members = node.body if isinstance(node, ast.ClassDef) else []
            found |= {f"{node.name}.{member.name}" for member in members if isinstance(member, ast.FunctionDef)}
        if isinstance(node, ast.Assign | ast.AnnAssign):
            found |= {ast.unparse(target) for target in getattr(node, "targets", None) or [node.target]}
    return found


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/extend.md", "docs/design.md"])
def test_named_functions_exist(name: str) -> None:
    """`file.py`: `function` names what the file defines."""
    places = re.findall(r"`([\w/]+\.py)`: ((?:`[\w.]+`(?:, )?)+)", (ROOT / name).read_text(encoding="utf-8"))
    missing = [
        f"{file}: {function}"
        for file, functions in places
        for function in re.findall(r"`([\w.]+)`", functions)
        if function not in definitions(ROOT / file)
    ]
    assert missing == [] and (places or name == "docs/design.md")


def renamed(title: str) -> list[str]:
    """The new names of a table of the changelog."""
    table = re.search(rf"^{title}.*?\n\n(.*?)\n\n", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M | re.S)
    assert table
    return [name for row in table[1].splitlines()[2:] for name in re.findall(r"`([\w./*]+)`", row.split("|")[2])]


def test_new_names_in_the_changelog_exist() -> None:
    known = {key for key, _ in keys(TrainConfig)} | {"model.fusion"}
    assert [key for key in renamed("Keys of a training configuration") if key not in known] == []
    modules = [name for name in renamed("Modules") if name.startswith(("ccl.", "mtv.", "shared.")) and name[-1] != "."]
    places = [ROOT / name.replace(".", "/") for name in modules]
    assert [place for place in places if not (place.is_dir() or place.with_suffix(".py").is_file())] == []


def test_results_in_the_readme_are_those_of_the_page() -> None:
    rows = re.findall(
        r"^\| [^|]*(\| (?:t2av|a2v|v2a|mtv) \|.+)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M
    )
    page = (ROOT / "docs/checkpoint.md").read_text(encoding="utf-8")
    assert len(rows) == 6 and [row for row in rows if row not in page] == []


#: Where a text for the shipped checkpoint stands: an option, a variable that one takes, a call of a pipeline.
PROMPT = r"""(?:--(?:audio-|negative-)?prompt |P=|pipe(?:line)?\(\s*)((?:"[^"]*"\s*)+)"""


def prompts_of(text: str) -> list[str]:
    found = re.findall(PROMPT, re.sub(r"\\\s*\n", "", text.replace("\\n", "")))
    joined = ["".join(re.findall(r'"([^"]*)"', one)) for one in found]
    return [" ".join(one.split()) for one in joined if "$" not in one]


def test_examples_use_words_that_the_shipped_checkpoint_knows() -> None:
    config = json.loads((ROOT / "assets/puppets/text_encoder/config.json").read_text(encoding="utf-8"))
    scripts = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "scripts").glob("*.py"))]
    cells = json.loads((ROOT / "docs/tour.ipynb").read_text(encoding="utf-8"))["cells"]
    pages = [path.read_text(encoding="utf-8") for path in TEXTS]
    texts = (*pages, *scripts, *("".join(cell["source"]) for cell in cells))
    found = [prompt for text in texts for prompt in prompts_of(text)]
    assert len(found) > 12
    strange = {p: words for p in found if (words := set(words_of(p.replace("...", ""))) - set(config["vocabulary"]))}
    assert strange == {}
