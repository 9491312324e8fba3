"""Options of a script: a pydantic model, as the training configuration is one. A field is an option.

    class CheckOptions(Options):
        manifest: Path = option(help="manifest.jsonl, or a folder of X.mp4 with X.txt")
        steps: int = option(24, "solver steps", ge=1)

    options = parse(CheckOptions, __doc__, argv)

Nothing here imports torch, so a script can refuse its options at once."""

from __future__ import annotations

import argparse
import difflib
import inspect
import math
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from shared.utils.config_file import told_range
from shared.utils.errors import UserError
from shared.utils.files import check_place
from shared.utils.ranges import Rate, Scale, Side, Weight
from shared.utils.text_files import is_file, shortened

if TYPE_CHECKING:
    import torch


class Options(BaseModel):
    """Base of a script's options: fields' types and limits check them; `ValueError`s of validators are told as is."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, arbitrary_types_allowed=True)


Model = TypeVar("Model", bound=Options)


def option(
    default: Any = ..., help: str = "", *, name: str | None = None, metavar: str | tuple[str, ...] | None = None,
    repeat: bool = False, positional: bool = False, hidden: bool = False,
    writes: Literal["file", "folder"] | None = None, **limits: Any,
) -> Any:  # fmt: skip
    """Make a field of `Options`: `--its-name`, or `--name`.
    A bool is a flag (with `--no-` where its default is True or None), a tuple takes as many values as it has, a list
    any number after one option or, with `repeat`, one for each time that the option is given; with a `BeforeValidator`,
    which takes it apart, either is one word. `writes`: it is made there; a place that cannot be
    written is refused at once. `limits`: pydantic's (gt, ge, le, min_length ...)."""
    said: Any = dict(name=name, metavar=metavar, repeat=repeat, positional=positional, hidden=hidden, writes=writes)
    return Field(default, description=help, json_schema_extra={"option": said}, **limits)


class TrustOptions(Options):
    """Options of a script that reads a checkpoint's codecs and encoders."""

    trust_package: list[str] = option(
        [], "a package of yours whose codecs or encoders the checkpoint names (docs/codecs.md); any number",
        metavar="NAME", repeat=True,
    )  # fmt: skip


def parse(kind: type[Model], description: str | None, argv: Sequence[str] | None = None) -> Model:
    """Read the options in `argv` (default: the process's). UserError, one line, for any that is wrong; --help exits."""
    parser = _Parser(description)
    _add(parser, kind)
    given, unknown = parser.parse_known_args(_words(argv))
    return _validated(kind, vars(given), unknown)


def parse_command(
    kinds: Mapping[str, type[Options]], description: str | None, argv: Sequence[str] | None = None
) -> tuple[str, Any]:
    """Read the command, a key of `kinds`, and its options; its help is the first line of its model's docstring."""
    parser = _Parser(description)
    commands = parser.add_subparsers(dest="_command", required=True, metavar="|".join(kinds))
    for name, kind in kinds.items():
        about = (kind.__doc__ or "").strip()
        _add(commands.add_parser(name, help=about.split("\n")[0], description=about), kind)
    given, unknown = parser.parse_known_args(_words(argv))
    command = vars(given).pop("_command")
    return command, _validated(kinds[command], vars(given), unknown)


def exclusive(options: Options, *names: str, required: bool = False) -> None:
    """Raise UserError if more than one of the options `names` is given, or, where one is `required`, none."""
    flags = [_flag(name, type(options).model_fields[name]) for name in names]
    given = [flag for flag, name in zip(flags, names, strict=True) if getattr(options, name) is not None]
    if required and not given:
        raise UserError(f"one of the options {' '.join(flags)} is needed (see --help)")
    if len(given) > 1:
        raise UserError(f"{given[1]}: not allowed with {given[0]} (see --help)")


def per_stream(text: Any) -> Any:
    """Values for two streams: "2" -> (2, 2); "3,2" -> (3, 2), video and audio. ValueError for any other text."""
    if not isinstance(text, str):
        return text
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 2) or not all(map(math.isfinite, values)):
        raise ValueError(f"{text}: one number, or two as VIDEO,AUDIO, are needed")
    return values[0], values[-1]


def spans(text: Any) -> Any:
    """Spans of seconds: "0-2,4-5" -> ((0, 2), (4, 5)). ValueError for any other text."""
    if not isinstance(text, str):
        return text
    try:
        pairs = tuple(tuple(float(end) for end in part.split("-")) for part in text.split(","))
    except ValueError:
        pairs = ()
    if not pairs or not all(len(pair) == 2 and 0 <= pair[0] < pair[1] < math.inf for pair in pairs):
        raise ValueError(f"{text}: seconds from and to, as 0-2 or 0-2,4-5, are needed")
    return pairs


def pixels(text: Any) -> Any:
    """Pixels as "64" or "64x96" -> (height, width). ValueError for any other text."""
    if not isinstance(text, str | int):
        return text
    numbers = str(text).lower().split("x")
    if len(numbers) > 2 or not all(number.isdecimal() for number in numbers):
        raise ValueError(f"{text}: give pixels as 64, or height x width as 64x96")
    return int(numbers[0]), int(numbers[-1])


#: Spans of seconds of a clip.
Spans = Annotated[tuple[tuple[float, float], ...], BeforeValidator(spans)]
#: Height and width.
Pixels = Annotated[tuple[Side, Side], BeforeValidator(pixels)]
#: An option with a value for each stream.
PerStream = Annotated[tuple[Scale, Scale], BeforeValidator(per_stream)]
#: Two shares, low and high.
Interval = Annotated[tuple[Rate, Rate], BeforeValidator(per_stream)]
#: A number from 0 for each stream.
Thresholds = Annotated[tuple[Weight, Weight], BeforeValidator(per_stream)]


def numbers(text: Any) -> Any:
    """Whole numbers between commas, each once: "9,11" -> (9, 11). ValueError for any other text."""
    if not isinstance(text, str):
        return text
    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise ValueError(f"{text}: whole numbers between commas are needed, as 9,11") from None


def some_of(known: Sequence[str], none: str = "", every: str = "") -> Callable[[Any], Any]:
    """Make a validator that reads names between commas, each once, in the order of `known`; `none`: no name at all,
    `every`: all of them."""
    words = {word: names for word, names in ((none, ()), (every, tuple(known))) if word}

    def read(text: Any) -> Any:
        if not isinstance(text, str) or text in words:
            return words.get(text, text) if isinstance(text, str) else text
        names = [name.strip() for name in text.split(",")]
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"{unknown[0]}: give some of {','.join(known)}{''.join(f', or {word}' for word in words)}")
        return tuple(name for name in known if name in names)

    return read


def device(name: str) -> torch.device:
    """Find the device `name`; `auto` is a GPU if there is one. Raises UserError for a device that is not here."""
    import torch

    cuda = torch.cuda.is_available()
    try:
        chosen = torch.device(("cuda" if cuda else "cpu") if name == "auto" else name)
    except RuntimeError:
        chosen = torch.device("meta")
    count = {"cpu": 1, "cuda": torch.cuda.device_count()}.get(chosen.type, 0)
    if (chosen.index or 0) >= count:
        raise UserError(f"--device {name}: there is no such device here; use {'cuda' if cuda else 'cpu'}")
    return chosen


class _Parser(argparse.ArgumentParser):
    """Shows the script's own text as it is, and raises UserError."""

    def __init__(self, description: str | None = None, **options: Any) -> None:
        options["formatter_class"] = argparse.RawDescriptionHelpFormatter
        super().__init__(description=description, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message.removeprefix('argument ')} (see --help)")


def _add(parser: argparse.ArgumentParser, kind: type[Options]) -> None:
    own = inspect.get_annotations(kind)
    for name, field in sorted(kind.model_fields.items(), key=lambda item: item[0] not in own):  # inherited ones follow
        settings, said = _settings(field), _said(field)
        if said["positional"]:  # not required of argparse, which would tell of it before a wrong option
            parser.add_argument(name, **(settings | {"nargs": "*" if settings.get("nargs") else "?"}))
        else:  # a hidden option is a launcher's, and some write it with underscores
            spellings = {_flag(name, field), f"--{name}" if said["hidden"] else _flag(name, field)}
            parser.add_argument(*sorted(spellings), dest=name, **settings)


def _settings(field: FieldInfo) -> dict[str, Any]:
    """Tell argparse of a field; pydantic turns the words into values, has the defaults, and tells what is missing."""
    kind: Any = field.annotation
    said = _said(field)
    if get_origin(kind) in (Union, types.UnionType):  # X | None
        kind = next(part for part in get_args(kind) if part is not types.NoneType)
    rules = list(field.metadata)
    if get_origin(kind) is Annotated:
        kind, *more = get_args(kind)
        rules += more
    origin, parts = get_origin(kind), get_args(kind)
    about = argparse.SUPPRESS if said["hidden"] else _help(field)
    settings: dict[str, Any] = {"default": argparse.SUPPRESS, "help": about}
    if kind is bool:
        return settings | {"action": "store_true" if field.default is False else argparse.BooleanOptionalAction}
    if origin is Literal:
        settings["choices"] = parts
    if said["metavar"] or origin is not Literal:
        settings["metavar"] = said["metavar"] or {int: "N", float: "X"}.get(kind)
    if said["repeat"]:
        settings["action"] = "append"
        origin, parts = get_origin(parts[0]), get_args(parts[0])
    if origin in (tuple, list) and not any(isinstance(rule, BeforeValidator) for rule in rules):
        settings["nargs"] = len(parts) if origin is tuple else "+"
    return settings


def _help(field: FieldInfo) -> str:
    text = (field.description or "").replace("%", "%%")
    if field.is_required() or field.default is None or field.default is False or "default" in text:
        return text
    default = field.get_default(call_default_factory=True)
    shown = " ".join(map(str, default)) if isinstance(default, list | tuple) else default
    return text if shown == "" else f"{text} (default: {shown})".strip()


def _said(field: FieldInfo) -> dict[str, Any]:
    extra: Any = field.json_schema_extra
    return extra["option"]


def _words(argv: Sequence[str] | None) -> list[str]:
    """Words of the command line. UserError for one that is not UTF-8: no file of ours could hold it."""
    words = sys.argv[1:] if argv is None else list(argv)
    for number, word in enumerate(words, start=1):
        if not word.isprintable() and any("\ud800" <= character <= "\udfff" for character in word):
            raise UserError(
                f"word {number} of the command, {shortened(repr(word))}: is not UTF-8; write or rename it so"
            )
    return words


def _flag(name: str, field: FieldInfo) -> str:
    if _said(field)["positional"]:
        return name.upper()
    return "--" + (_said(field)["name"] or name).replace("_", "-")


def _validated(kind: type[Model], values: dict[str, Any], unknown: Sequence[str]) -> Model:
    flags = {name: _flag(name, field) for name, field in kind.model_fields.items()}
    if wrong := [word for word in unknown if word.startswith("-")]:
        word = wrong[0].partition("=")[0]
        known = [flags[name] for name, field in kind.model_fields.items() if not _said(field)["hidden"]]
        near = difflib.get_close_matches(word, ["--help", *known], n=1, cutoff=0)
        raise UserError(f"unknown option {word}; the nearest is {near[0]} (see --help)")
    if unknown:
        raise UserError(f"{unknown[0]}: belongs to no option (see --help)")
    try:
        options: Model = kind.model_validate(values)
        for value in dict(options).values():
            for path in value if isinstance(value, list) else [value]:
                if isinstance(path, Path):
                    is_file(path)  # a name that no file can have is refused here
    except ValidationError as error:
        first = error.errors()[0]
        said = first["ctx"]["error"] if first["type"] == "value_error" else f"{first['input']}: {first['msg']}"
        if first["loc"] and first["type"].startswith(("less_than", "finite_number")):  # the others say enough
            said += told_range(kind, first["loc"])
        if not first["loc"]:
            raise UserError(str(said)) from None
        said = "is needed" if first["type"] == "missing" else said
        raise UserError(f"{flags[str(first['loc'][0])]} {said} (see --help)") from None
    for name, field in kind.model_fields.items():
        if _said(field)["writes"] and getattr(options, name) is not None:
            check_place(flags[name], getattr(options, name), _said(field)["writes"])
    return options
