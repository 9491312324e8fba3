"""Where every tensor of a model comes from and what becomes of every tensor of the sources; the rest is an error."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from shared.checkpoint.conversion.safetensors_reader import SourceWeights, named
from shared.nn.parameter_names import part_of
from shared.utils.errors import UserError

if TYPE_CHECKING:  # what is wrong with a path is said before torch is loaded
    from torch import nn


class SourceTensor(NamedTuple):
    """The tensor `name` of `weights`."""

    weights: SourceWeights
    name: str


class WeightMap:
    """What a model of these tensors (`shapes`: name -> shape) is made of. Fill it, then `check` it."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.shapes = dict(shapes)
        self.origins: dict[str, SourceTensor | str] = {}  # a text: a new tensor, and why
        self.left: list[tuple[SourceWeights, str, str]] = []
        self.sources: dict[SourceWeights, None] = {}  # in their order

    def take(self, weights: SourceWeights, names: Mapping[str, str]) -> None:
        """Take {our name: its name in `weights`}."""
        self.sources[weights] = None
        self.origins |= {ours: SourceTensor(weights, name) for ours, name in names.items() if ours in self.shapes}

    def new(self, names: Iterable[str], why: str) -> None:
        """Make these fresh."""
        self.origins |= dict.fromkeys(names, why)

    def leave(self, weights: SourceWeights, names: Iterable[str], why: str) -> None:
        """Do not use these of `weights`."""
        self.sources[weights] = None
        self.left += [(weights, name, why) for name in names]

    def check(self) -> None:
        """Raise UserError unless every tensor has an origin of its shape, and each of a source is used or left."""
        used = {ours: origin for ours, origin in self.origins.items() if isinstance(origin, SourceTensor)}
        settled = {*used.values(), *(SourceTensor(weights, name) for weights, name, _ in self.left)}
        for weights in self.sources:
            if strange := [name for name in weights.shapes if SourceTensor(weights, name) not in settled]:
                raise UserError(f"{weights.label}: {named(strange)} without a place in the model; is it the right one?")
        if lacking := [name for name in self.shapes if name not in self.origins]:
            label = ", ".join(weights.label for weights in self.sources)
            raise UserError(f"{label}: nothing for {named(lacking)} of the model; is it the right one?")
        for source in self.sources:
            taken = [(ours, name) for ours, (weights, name) in used.items() if weights is source]
            if wrong := [(ours, name) for ours, name in taken if source.shapes[name] != self.shapes[ours]]:
                ours, theirs = wrong[0]
                sizes = f"{theirs} is {list(source.shapes[theirs])}, {ours} {list(self.shapes[ours])}"
                raise UserError(f"{source.label}: {named([name for _, name in wrong])} of another shape: {sizes}")

    def report(self) -> str:
        """Write a table for a terminal: parts by origin, and the sum."""
        return as_text([*report_rows(self), *totals(self.shapes)[-1:]])


class ReportRow(NamedTuple):
    """One line of a report: how many tensors and values of a part have one origin."""

    part: str
    origin: str
    tensors: int
    values: int


def report_rows(mapping: WeightMap) -> list[ReportRow]:
    """Parts of the model (`part_of`) by origin, then what of the sources is left."""
    sizes = []
    for name, shape in mapping.shapes.items():
        origin = mapping.origins[name]
        text = f"from {origin.weights.label}" if isinstance(origin, SourceTensor) else f"new: {origin}"
        sizes.append((part_of(name), text, math.prod(shape)))
    for weights, name, why in mapping.left:
        first, _, rest = name.partition(".")  # "audio_model.patch_embedding.0.weight" -> "audio_model.patch_embedding"
        family = f"{first}.{rest.partition('.')[0]}" if first.endswith("_model") else part_of(name)
        sizes.append(("left", f"{weights.label}, {family}: {why}", math.prod(weights.shapes[name])))
    return _counted(sizes)


def totals(shapes: Mapping[str, tuple[int, ...]]) -> list[ReportRow]:
    """Count the parts of a model, and all of it."""
    parts = _counted((part_of(name), "", math.prod(shape)) for name, shape in shapes.items())
    return [*parts, ReportRow("model", "", len(shapes), sum(row.values for row in parts))]


def _counted(tensors: Iterable[tuple[str, str, int]]) -> list[ReportRow]:
    """Sum (part, origin, values) of tensors by part and origin."""
    groups: dict[tuple[str, str], list[int]] = {}
    for part, origin, values in tensors:
        groups.setdefault((part, origin), []).append(values)
    return [ReportRow(*group, len(sizes), sum(sizes)) for group, sizes in groups.items()]


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """List the shape of every tensor that is saved, by its name."""
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def as_text(rows: list[ReportRow]) -> str:
    """Write a table for a terminal, its numbers under one another."""
    head = f"{'part':14s}{'tensors':>9s}{'values':>17s}"
    body = [f"{row.part:14s}{row.tensors:9,d}{row.values:17,d}  {row.origin}".rstrip() for row in rows]
    return "\n".join([head, *body])
