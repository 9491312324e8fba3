"""The model card that a run writes beside its weights."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from shared.utils.config import TrainConfig, dump_config


def commit() -> str:
    """The commit of the code, with a mark where files differ from it; "unknown" outside a git checkout."""
    root = Path(__file__).resolve().parents[2]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


@dataclass(frozen=True)
class Progress:
    """How far a run has come. An export from a saved state knows neither the number of `clips` nor the `seconds` that
    training took; `average`: whether the weights are the average, where the run keeps one."""

    step: int
    clips: int | None = None
    seconds: float | None = None
    processes: int = 1
    average: bool = True

    def table(self, config: TrainConfig, first: str = "", stage: str = "") -> str:
        """Markdown rows, `first` before the others and `stage` beside the steps."""
        train = config.train
        average = f"average of decay {train.ema}" if train.ema and self.average else "of the last step"
        rows = [
            first,
            "" if self.clips is None else f"| clips | {self.clips} |",
            f"| steps | {self.step} of {train.steps}{stage} |",
            f"| clips a step | {train.micro_batch * train.gradient_accumulation_steps * self.processes}, "
            f"processes: {self.processes} |",
            f"| weights | {average} |",
            "" if self.seconds is None else f"| wall time of the last process | {self.seconds / 60:.0f} min |",
            f"| code | commit {commit()} |",
        ]
        return "\n".join(["| | |", "|---|---|", *filter(None, rows)])


def model_card(config: TrainConfig, progress: Progress) -> str:
    """Markdown: what the weights were trained on, for how long, from which code, and with which configuration."""
    manifests = "\n".join(f"- `{path}`" for path in config.data.manifests or config.data.shard_folders)
    return f"""---
library_name: diffusers
pipeline_tag: text-to-video
tags: [audio-video, joint-generation, cross-modal-context-learning]
---
# Joint audio-video checkpoint

Read it with `CCLPipeline.from_pretrained(folder)`.

{progress.table(config)}

Trained on:
{manifests}

Measure it with `python scripts/evaluate.py --checkpoint FOLDER --suite puppets --level simple --output DIR`.

## Configuration

```yaml
{dump_config(config).strip()}
```
"""
