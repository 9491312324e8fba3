"""Where every tensor of a model comes from and what becomes of every tensor of the sources; the rest is an error."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.checkpoint.conversion.safetensors_reader import SourceWeights, named
from shared.nn.parameter_names import part_of
from shared.utils.errors import UserError
from shared.utils.markdown import markdown_table

if TYPE_CHECKING:  # what is wrong with a path is said before torch is loaded
    from torch import nn


@dataclass(frozen=True)
class SourceTensor:
    """The tensor `name` of `weights`."""

    weights: SourceWeights
    name: str


@dataclass(frozen=True)
class NewTensor:
    """A fresh tensor, and why."""

    why: str


class WeightMap:
    """What a model of these tensors (`shapes`: name -> shape) is made of. Fill it, then `check` it."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.shapes = dict(shapes)
        self.origins: dict[str, SourceTensor | NewTensor] = {}
        self.left: list[tuple[SourceWeights, str, str]] = []
        self.sources: list[SourceWeights] = []

    def take(self, weights: SourceWeights, names: Mapping[str, str]) -> None:
        """Take {our name: its name in `weights`}."""
        self._know(weights)
        for ours, theirs in names.items():
            if ours in self.shapes:
                self.origins[ours] = SourceTensor(weights, theirs)

    def new(self, names: Iterable[str], why: str) -> None:
        """Make these fresh."""
        self.origins |= {name: NewTensor(why) for name in names}

    def leave(self, weights: SourceWeights, names: Iterable[str], why: str) -> None:
        """Do not use these of `weights`."""
        self._know(weights)
        self.left += [(weights, name, why) for name in names]

    def _know(self, weights: SourceWeights) -> None:
        if weights not in self.sources:
            self.sources.append(weights)

    def check(self) -> None:
        """Every tensor has an origin of its shape, and every tensor of a source is used or left.

        Raises:
            UserError: with how many are wrong, and the first of them.
        """
        used = {(id(o.weights), o.name) for o in self.origins.values() if isinstance(o, SourceTensor)}
        settled = used | {(id(weights), name) for weights, name, _ in self.left}
        for weights in self.sources:
            strange = [name for name in weights.shapes if (id(weights), name) not in settled]
            if strange:
                raise UserError(f"{weights.label}: {named(strange)} without a place in the model; is it the right one?")
        lacking = [name for name in self.shapes if name not in self.origins]
        label = ", ".join(weights.label for weights in self.sources)
        if lacking:
            raise UserError(f"{label}: nothing for {named(lacking)} of the model; is it the right one?")
        for weights in self.sources:
            wrong = {
                ours: o.name for ours, o in self.origins.items()
                if isinstance(o, SourceTensor) and o.weights is weights and weights.shapes[o.name] != self.shapes[ours]
            }  # fmt: skip
            if wrong:
                ours, theirs = next(iter(wrong.items()))
                raise UserError(
                    f"{weights.label}: {named(list(wrong.values()))} of another shape: {theirs} is "
                    f"{list(weights.shapes[theirs])}, {ours} {list(self.shapes[ours])}"
                )


@dataclass(frozen=True)
class ReportRow:
    """One line of a report: how many tensors and values of a part have one origin."""

    part: str
    origin: str
    tensors: int
    values: int


def report_rows(mapping: WeightMap) -> list[ReportRow]:
    """Parts of the model (`part_of`) by origin, then what of the sources is left."""
    sizes: dict[tuple[str, str], list[int]] = {}
    for name, shape in mapping.shapes.items():
        origin = mapping.origins[name]
        text = f"from {origin.weights.label}" if isinstance(origin, SourceTensor) else f"new: {origin.why}"
        sizes.setdefault((part_of(name), text), []).append(math.prod(shape))
    for weights, name, why in mapping.left:
        sizes.setdefault(("left", f"{weights.label}, {_family(name)}: {why}"), []).append(
            math.prod(weights.shapes[name])
        )
    return [ReportRow(part, origin, len(values), sum(values)) for (part, origin), values in sizes.items()]


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """List the shape of every tensor that is saved, by its name."""
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def totals(shapes: Mapping[str, tuple[int, ...]]) -> list[ReportRow]:
    """Count the parts of a model, and all of it."""
    sizes: dict[str, list[int]] = {}
    for name, shape in shapes.items():
        sizes.setdefault(part_of(name), []).append(math.prod(shape))
    parts = [ReportRow(part, "", len(values), sum(values)) for part, values in sizes.items()]
    return [*parts, ReportRow("model", "", len(shapes), sum(row.values for row in parts))]


def as_text(rows: list[ReportRow]) -> str:
    """Write a table for a terminal, its numbers under one another."""
    head = f"{'part':14s}{'tensors':>9s}{'values':>17s}"
    body = [f"{row.part:14s}{row.tensors:9,d}{row.values:17,d}  {row.origin}".rstrip() for row in rows]
    return "\n".join([head, *body])


def as_markdown(rows: list[ReportRow]) -> str:
    """Write a table for a model card."""
    cells = [[row.part, f"{row.tensors:,}", f"{row.values:,}", row.origin] for row in rows]
    return markdown_table(["part", "tensors", "values", "origin"], cells).rstrip()


def _family(name: str) -> str:
    """Name the part of a source that a name belongs to: "audio_model.patch_embedding.0.weight" -> "audio_model..."."""
    first, _, rest = name.partition(".")
    return f"{first}.{rest.partition('.')[0]}" if first.endswith("_model") else part_of(name)
