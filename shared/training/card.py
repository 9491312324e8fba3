"""The model card that a run writes beside its weights."""

from __future__ import annotations

import subprocess
from pathlib import Path

from shared.config import TrainConfig, dump_config


def commit() -> str:
    """The commit of the code, with a mark where files differ from it; "unknown" outside a git checkout."""
    root = Path(__file__).resolve().parents[2]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def model_card(
    config: TrainConfig,
    step: int,
    clips: int | None = None,
    seconds: float | None = None,
    processes: int = 1,
    average: bool = True,
) -> str:
    """Markdown: what the weights were trained on, for how long, from which code, and with which configuration.

    An export from a saved state knows neither the number of `clips` nor the `seconds` that training took; `average`:
    whether it is of the average, where the run keeps one.
    """
    known = "" if clips is None else f"| clips | {clips} |\n"
    took = "" if seconds is None else f"| wall time of the last process | {seconds / 60:.0f} min |\n"
    manifests = "\n".join(f"- `{path}`" for path in config.data.manifests or config.data.shard_folders)
    return f"""---
library_name: diffusers
pipeline_tag: text-to-video
tags: [audio-video, joint-generation, cross-modal-context-learning]
---
# Joint audio-video checkpoint

Read it with `CCLPipeline.from_pretrained(folder)`.

| | |
|---|---|
{known}| steps | {step} of {config.train.steps} |
| clips a step | {config.train.micro_batch * config.train.accumulation * processes}, processes: {processes} |
| weights | {"average of decay " + str(config.train.ema) if config.train.ema and average else "of the last step"} |
{took}| code | commit {commit()} |

Trained on:
{manifests}

Measure it with `python scripts/evaluate.py --checkpoint FOLDER --suite stage --level simple --output DIR`.

## Configuration

```yaml
{dump_config(config).strip()}
```
"""
