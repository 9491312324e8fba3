"""Classes that a user names in a text: a codec or an encoder of a package outside this repository."""

import re
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Self

from shared.utils.errors import UserError

_NAMED = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*)@(.+)")


@dataclass(frozen=True)
class NamedClass:
    """`package.module:Class@SOURCE`: the class (`kind`, module:Class) and the folder or hub id that it reads."""

    kind: str
    source: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """None if `text` names no class."""
        return cls(*match.groups()) if (match := _NAMED.fullmatch(text)) else None

    @property
    def package(self) -> str:
        """The name by which a checkpoint folder may be allowed to import it."""
        return re.split("[.:]", self.kind)[0]


def load_class(kind: str) -> Any:
    """Import the class `package.module:Class`. Raises UserError if the module is not there, or has no such class."""
    module, _, name = kind.partition(":")
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise UserError(f"{kind}: {error}; install its package, or name its folder in PYTHONPATH") from None
    except AttributeError:
        raise UserError(f"{kind}: the module has no {name}; package.module:Class is needed") from None
