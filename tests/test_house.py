"""The house keeps its shape: rooms, arrows between them, lengths, and a test file for every module.

`lint-imports` (in `make check`) says which arrows there may be; here they are counted.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("ccl", "mtv", "shared")
#: `shared/curation`, the data builder, made them 21 and 71: it stands on data, evaluation (pages), perception, puppets
#: (their own detector) and utils, and nothing but a script on it. Layouts of adapters, in `shared/checkpoint`, know the
#: streams' names of `shared/nn`: one more. `ccl/app`, the page, made them 22 and 80: it stands on both pipelines and
#: on what looks into clips, so on ccl, its analysis, mtv, and of shared on checkpoint, data, evaluation, metrics and
#: utils; nothing but a script on it.
#: mtv on perception: whose voice it is.
MOST_ROOMS, MOST_ARROWS = 22, 81
LINES_OF_FILE, LINES_OF_FUNCTION, LINES_OF_SCRIPT = 350, 60, 120

TESTED_ELSEWHERE = {
    "ccl/conversion.py": "tests/scripts/test_convert.py",
    "ccl/joint_block.py": "tests/ccl/test_transformer.py",
    "shared/curation/stages.py": "tests/shared/curation/test_build.py",
    "mtv/encoding.py": "tests/scripts/test_encode.py",
    "mtv/control_layers.py": "tests/mtv/test_control.py",
    "mtv/separation_dsp.py": "tests/mtv/test_separation.py",
    "shared/checkpoint/conversion/plan.py": "tests/scripts/test_convert.py",
    "shared/checkpoint/conversion/weight_map.py": "tests/shared/checkpoint/conversion/test_sharded_writer.py",
    "shared/checkpoint/lora_file.py": "tests/shared/checkpoint/test_lora.py",
    "shared/codecs/library.py": "tests/shared/codecs/test_wan.py",
    "shared/data/media_write.py": "tests/shared/data/test_media.py",
    "shared/puppets/draws.py": "tests/shared/puppets/test_clip.py",
    "shared/puppets/picture.py": "tests/shared/puppets/test_clip.py",
    "shared/puppets/scene_fit.py": "tests/shared/puppets/test_readers.py",
    "shared/puppets/script.py": "tests/shared/puppets/test_clip.py",
    "shared/puppets/sound.py": "tests/shared/puppets/test_clip.py",
    "shared/puppets/spec.py": "tests/shared/puppets/test_clip.py",
    "shared/utils/config_file.py": "tests/shared/utils/test_config.py",
    "shared/utils/config_sections.py": "tests/shared/utils/test_config.py",
}
"""Modules that are tested as parts of another's subject, and where."""
MOST_EXCEPTIONS = 20


def sources(*folders: str) -> list[Path]:
    return sorted(file.relative_to(ROOT) for folder in folders for file in (ROOT / folder).glob("**/*.py"))


def functions(file: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def told(problems: list[str], what: str) -> str:
    return f"{len(problems)} {what}:\n" + "\n".join(problems)


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Imports in functions and for types count."""
    return grimp.build_graph(*PACKAGES, cache_dir=None)


def room(module: str) -> str:
    """The folder that a module stands in; a package is a room itself. `shared` holds no module, only rooms."""
    return module if (ROOT / module.replace(".", "/")).is_dir() else module.rpartition(".")[0]


def test_the_rooms_are_few() -> None:
    rooms = [str(file.parent) for file in sources(*PACKAGES) if file.name == "__init__.py"] + ["scripts"]
    assert len(rooms) <= MOST_ROOMS, told(rooms, "rooms")
    homeless = [str(file) for file in sources(*PACKAGES) if str(file.parent) not in rooms]
    assert not homeless, told(homeless, "files in a folder without __init__.py")


def test_the_arrows_between_rooms_are_few(graph: grimp.ImportGraph) -> None:
    arrows = {
        f"{room(module)} -> {room(imported)}"
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
        if room(module) != room(imported) != "shared"
    }
    assert len(arrows) <= MOST_ARROWS, told(sorted(arrows), "arrows")


def test_no_rooms_and_no_files_go_round(graph: grimp.ImportGraph) -> None:
    cycles = [
        f"{importer} -> {imported}"
        for package in sorted(module for module in graph.modules if graph.find_children(module))
        for importer, imported in sorted(graph.nominate_cycle_breakers(package))
    ]
    assert not cycles, told(cycles, "imports that close a cycle")


def test_nothing_imports_a_script() -> None:
    importers = [
        str(file)
        for file in sources(*PACKAGES)
        if re.search(r"^\s*(from|import) scripts\b", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert not importers, told(importers, "files import a script")


@pytest.mark.parametrize(("folders", "most"), [(PACKAGES, LINES_OF_FILE), (("scripts",), LINES_OF_SCRIPT)])
def test_files_are_short(folders: tuple[str, ...], most: int) -> None:
    lengths = {file: len((ROOT / file).read_text(encoding="utf-8").splitlines()) for file in sources(*folders)}
    long = [f"{file}: {length}" for file, length in lengths.items() if length > most]
    assert not long, told(long, f"files of more than {most} lines")


def test_functions_are_short() -> None:
    long = []
    for file in sources(*PACKAGES, "scripts"):
        for function in functions(file):
            length = (function.end_lineno or 0) - function.lineno + 1
            if length > LINES_OF_FUNCTION:
                long.append(f"{file}: {function.name}: {length}")
    assert not long, told(long, f"functions of more than {LINES_OF_FUNCTION} lines")


def test_tests_mirror_the_tree() -> None:
    lacking = []
    for file in sources(*PACKAGES, "scripts"):
        has_logic = any(True for _ in functions(file))
        mirror = f"tests/{file.parent}/test_{file.stem}.py"
        if has_logic and not (ROOT / TESTED_ELSEWHERE.get(str(file), mirror)).exists():
            lacking.append(f"{file}: no {mirror}")
    assert not lacking, told(lacking, "modules without their test file")


def test_the_exceptions_are_few_and_needed() -> None:
    assert len(TESTED_ELSEWHERE) <= MOST_EXCEPTIONS
    for module, test in TESTED_ELSEWHERE.items():
        mirror = Path("tests") / Path(module).with_name(f"test_{Path(module).name}")
        assert (ROOT / module).exists(), f"{module} is no module; take it from the list"
        assert not (ROOT / mirror).exists(), f"{module} has {mirror}; take it from the list"
        assert (ROOT / test).exists(), f"{module}: {test} is no file"
