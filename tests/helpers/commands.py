"""The commands of a page of documentation: what each reads and what it writes."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from mtv.curriculum import CurriculumConfig
from shared.utils.config import TrainConfig

ROOT = Path(__file__).parents[2]
#: Options that name what a command writes.
WRITES = {"--output", "--report", "--pictures", "--local-dir"}
#: A word that names a file or folder: with a slash or an ending. Capitals alone stand for a name of the reader's.
PATH = re.compile(r"(?:[\w.-]+/)+[\w.-]*|[\w.-]+\.(?:mp4|mov|wav|png|yaml|jsonl?|html|txt|csv|safetensors|pth|th)")


@dataclass
class Command:
    """A line of a page, with its variables filled in."""

    words: list[str]
    reads: list[str] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)

    @property
    def script(self) -> str | None:
        """The script that it runs, without folder and ending."""
        return next((Path(word).stem for word in self.words if re.fullmatch(r"scripts/\w+\.py", word)), None)


def lines(text: str) -> Iterator[str]:
    """The command lines in the fenced blocks of a page, variables filled in."""
    variables: dict[str, str] = {}
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S):
        for line in () if language not in ("", "bash") else block.replace("\\\n", " ").splitlines():
            if given := re.fullmatch(r"(?:export )?([A-Z_]+)=(\S+|\"[^\"]*\")(?:\s+#.*)?", line):
                variables[given[1]] = given[2].strip('"')
                continue
            for name, value in variables.items():
                line = re.sub(rf"\${name}\b", value, line)
            yield line


def commands(text: str) -> list[Command]:
    """The commands of a page that run a script or fetch a model, in order."""
    found = [Command(shlex.split(line, comments=True)) for line in lines(text) if "scripts/" in line or "hf " in line]
    for command in found:
        _files(command)
    return found


def _files(command: Command) -> None:
    """Sort the paths among a command's words into what it reads and what it writes."""
    option, start = "", next((i for i, word in enumerate(command.words) if word.endswith(".py")), 0)
    overrides: list[str] = []
    config = None
    for word in command.words[start + 1 :]:
        if word.startswith("--"):
            option = word
        elif option == "--set":
            overrides.append(word)
        elif option == "--config":
            config = word
        elif option in WRITES:
            command.writes.append(word)
        elif command.script is None:  # hf download REPOSITORY
            continue
        elif PATH.fullmatch(path := word.partition("=")[2] or word):
            command.reads.append(path)
    if config and PATH.fullmatch(config):
        command.reads.append(config)
        if (ROOT / config).is_file():
            _files_of_run(command, config, overrides)


def _files_of_run(command: Command, config: str, overrides: list[str]) -> None:
    if command.script == "build_dataset":
        return
    kind = CurriculumConfig if command.script == "train_mtv" else TrainConfig
    run = kind.load(ROOT / config, overrides)
    named = [*run.data.manifests, *run.data.shard_folders, run.init, run.init_streams, run.codecs]
    named += [run.validation.manifest, getattr(run, "backbone", None)]
    if run.components:
        named += [run.components.video_codec, run.components.audio_codec, run.components.text_encoder]
    command.reads += [str(path) for path in named if path]
    command.writes.append(run.output)


@cache
def help_text(script: str, command: str = "") -> str:
    """What a script says of its options; `command`: of that command of it."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        importlib.import_module(script).main([command, "--help"] if command else ["--help"])
    return said.getvalue()


def subcommands(script: str) -> list[str]:
    """The commands that a script has, if it has any."""
    listed = re.search(r"\{([\w,-]+)\}\s+\.\.\.|(?<=\s)([\w-]+(?:\|[\w-]+)+)\s+\.\.\.", help_text(script))
    return re.split(r"[,|]", listed[1] or listed[2]) if listed else []
