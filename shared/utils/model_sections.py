"""Ranges of what `model` and `control` of a configuration may say; the models themselves say what belongs together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError

from shared.utils.config_file import told_range
from shared.utils.config_sections import Section
from shared.utils.ranges import Depth, Width

Positive = Annotated[float, Field(gt=0, le=10_000)]
Patch = Annotated[int, Field(ge=1, le=64)]
Rows = Annotated[list[Annotated[int, Field(ge=1, le=1_048_576)]], Field(min_length=3, max_length=3)]


class Settings(Section):
    """Keys that have a range; others are the model's own to judge."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)


class StreamSettings(Settings):
    """Numbers of `shared.nn.dit.StreamConfig`."""

    in_channels: Width = 1
    text_dim: Width = 1
    num_attention_heads: Depth = 1
    attention_head_dim: Annotated[int, Field(ge=2, le=4096, multiple_of=2)] = 2
    num_layers: Depth = 1
    ffn_dim: Width = 1
    freq_dim: Annotated[int, Field(ge=2, le=65_536, multiple_of=2)] = 2
    patch_size: tuple[Patch, Patch, Patch] = (1, 1, 1)
    eps: Annotated[float, Field(gt=0, le=0.1)] = 1e-6
    time_unit: Positive = 1.0
    text_layers: Annotated[int, Field(ge=0, le=64)] = 0
    text_heads: Depth = 4


class ModelSettings(Settings):
    """Numbers of `ccl.transformer.DualStreamTransformer`."""

    video: StreamSettings = StreamSettings()
    audio: StreamSettings = StreamSettings()
    cca_heads: Depth = 1
    cca_head_dim: Annotated[int, Field(ge=2, le=4096, multiple_of=2)] = 2
    context_tokens: Annotated[int, Field(ge=0, le=65_536)] = 0
    cca_time_scale: Positive = 1.0
    fusion_time_unit: Positive | None = None


class ControlSettings(Settings):
    """Numbers of `mtv.control.MSTControlNet`."""

    backbone_dim: Width = 1
    backbone_heads: Depth = 1
    num_blocks: Depth = 1
    tracks: dict[str, Rows] = Field(default={})
    token_dim: Width = 1
    tokens: Annotated[int, Field(ge=1, le=65_536)] = 1
    interaction_blocks: Annotated[int, Field(ge=0, le=4096)] = 1
    heads: Depth = 1
    ffn_dim: Width = 1
    injection_every: Depth = 1
    speakers: Annotated[int, Field(ge=1, le=64)] = 1
    temporal_stride: Patch = 1
    hidden_dim: Width = 1


class ZeroSettings(Settings):
    """The number of DeepSpeed's `zero_optimization` that everything hangs on; DeepSpeed judges the others."""

    stage: Annotated[int, Field(ge=0, le=3)] = 0


class DeepSpeedSettings(Settings):
    """A DeepSpeed JSON, as far as its numbers have a range here."""

    zero_optimization: ZeroSettings = ZeroSettings()


def check_numbers(key: str, settings: Mapping[str, Any] | None, kind: type[Settings]) -> None:
    """Raise ValueError naming the first number among `settings` of `key` that is out of its range, or not finite."""
    try:
        kind.model_validate(settings or {})
    except ValidationError as error:
        first = error.errors()[0]
        name, wanted = ".".join(map(str, (key, *first["loc"]))), told_range(kind, first["loc"])
        raise ValueError(f"{name} = {first['input']!r}: {first['msg']}{wanted}") from None
    for name, value in _numbers(settings or {}, key):
        if not math.isfinite(value):
            raise ValueError(f"{name} = {value}: a finite number is needed")


def _numbers(value: Any, name: str) -> Iterator[tuple[str, float]]:
    """Every number in nested mappings and lists, by its dotted name."""
    if isinstance(value, Mapping | list):
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _numbers(inner, f"{name}.{key}")
    elif isinstance(value, float):
        yield name, value
