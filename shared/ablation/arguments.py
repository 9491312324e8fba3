"""Options and overrides as words of a command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from shared.utils.config import dump_config, flatten, load_config
from shared.utils.errors import UserError


def training(base: str, overrides: Mapping[str, Any], who: str) -> tuple[list[str], dict[str, Any]]:
    """The `--set` words of a training run and all keys of its configuration, flat. Raises UserError naming `who`."""
    whole_first = sorted(overrides, key=lambda key: key.count("."))  # or `model` would undo `model.fusion`
    words = [f"{key}={_yaml(overrides[key])}" for key in whole_first]
    try:
        config = load_config(base, words)
    except UserError as error:
        raise UserError(f"{who}: {error}") from None
    return words, flatten(yaml.safe_load(dump_config(config)))


def flags(options: Mapping[str, Any]) -> list[str]:
    """{"text_scale": (2, 3)} -> ["--text-scale", "2,3"]."""
    words = []
    for name, value in options.items():
        text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        words += [f"--{name.replace('_', '-')}", text]
    return words


def _yaml(value: Any) -> str:
    """A value on one line, as `--set` reads it back."""
    text = yaml.safe_dump(value, default_flow_style=True, width=2**31, sort_keys=False)
    return text.removesuffix("...\n").strip()
