"""Packages whose names are imported when they are first asked for (PEP 562), so that a package itself costs nothing."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from shared.utils.errors import torchaudio_cure


def lazy(package: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """Make the `__getattr__` of `package`, which has `names` from the modules that they are mapped to."""

    def get(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            return getattr(import_module(names[name]), name)
        except (OSError, RuntimeError) as error:
            if cure := torchaudio_cure(error):
                raise ImportError(cure) from error
            raise

    return get
