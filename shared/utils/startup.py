"""Imports of large libraries in less time, where a user waits for them: nothing is run that nobody asks for."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

#: What diffusers imports and a run seldom uses: packages that bring in all of their modules (forty transformers, thirty
#: autoencoders) when one of these is imported, and what its schedulers need for one kind of sigmas.
DEFERRED = (
    "diffusers.models.autoencoders", "diffusers.models.controlnets",
    "diffusers.models.transformers", "diffusers.models.unets", "scipy.stats", "transformers.models",
)  # fmt: skip


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import the modules in `DEFERRED` without running them: each runs when it is asked for a name that it lacks, in
    this context or later. Python's garbage collector, which would look through all that is imported, waits."""
    finder, collects = _Finder(), gc.isenabled()
    sys.meta_path.insert(0, finder)
    gc.disable()
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        if collects:
            gc.enable()


class _DeferredModule(ModuleType):
    """A module whose code is yet to run; its submodules can be imported without it, where the standard library's
    LazyLoader would run a package."""

    def __getattr__(self, name: str) -> Any:
        loader = self.__spec__.loader if self.__spec__ else None
        assert loader is not None, f"{self.__name__} was found without a loader"
        self.__class__ = _RunModule  # type: ignore[assignment]
        try:
            loader.exec_module(self)
        except BaseException:
            self.__class__ = _DeferredModule  # the next to ask is told as well
            raise
        return getattr(self, name)


class _RunModule(ModuleType):
    """A module whose code has run, and may have put another object in its place (as transformers' do)."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules[self.__name__] is self:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(sys.modules[self.__name__], name)


class _Deferring(Loader):
    """Makes a module a deferred one, and leaves it to the loader that was found."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None, "the import system sets it"
        module.__spec__.loader = module.__loader__ = self.loader
        module.__class__ = _DeferredModule


class _Finder(MetaPathFinder):
    """Finds the modules in `DEFERRED`."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if name in DEFERRED else None
        if spec is not None and spec.loader is not None:
            spec.loader = _Deferring(spec.loader)
        return spec
