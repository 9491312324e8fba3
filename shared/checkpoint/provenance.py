"""Whose weights a checkpoint goes on from, and under which licence, for its card."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard


def provenance(start: str | None) -> dict[str, Any]:
    """Say whose weights these go on from, and under which licence: `license`, `license_name`, `base_model`, as the hub
    has them. What began from nothing is this project's; what has a card says so itself; of others nobody knows here."""
    if start is None:
        return {"license": "apache-2.0"}
    file = Path(start) / "README.md"
    with suppress(OSError, ValueError, yaml.YAMLError):
        about: Any = ModelCard(file.read_text(encoding="utf-8"), ignore_metadata_errors=True).data
        if about.license:
            return {"license": about.license, "license_name": about.license_name, "base_model": about.base_model}
    return {"license": "other", "license_name": "that-of-what-it-was-made-of"}
