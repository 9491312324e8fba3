"""The model card that a run writes beside its weights."""

from dataclasses import dataclass

import yaml

from shared.utils.config import TrainConfig
from shared.utils.portable import portable
from shared.utils.version import commit


@dataclass(frozen=True)
class Progress:
    """How far a run has come. An export from a saved state knows neither the number of `clips` nor the `seconds` that
    training took; `average`: whether the weights are the average, where the run keeps one."""

    step: int
    clips: int | None = None
    seconds: float | None = None
    processes: int = 1
    average: bool = True


def model_card(
    config: TrainConfig, progress: Progress, *, title: str, tags: str, use: str, rows: str = "", then: str = ""
) -> str:
    """Markdown: what the weights were trained on, for how long, from which code, and with which configuration.
    `use`: how the checkpoint is read; `rows`: of the table, before the others; `then`: after the list of clips."""
    train, processes = config.train, progress.processes
    micro_batches = train.gradient_accumulation_steps * processes // train.context_parallel
    size = f"| clips a step | {(train.micro_batch or 0) * micro_batches}, processes: {processes} |"
    if train.micro_batch is None:
        size = f"| tokens a step | at most {(train.token_budget or 0) * micro_batches}, processes: {processes} |"
    average = f"average of decay {train.ema}" if train.ema and progress.average else "of the last step"
    table = [
        rows,
        "" if progress.clips is None else f"| clips | {progress.clips} |",
        f"| steps | {progress.step} of {train.steps} |",
        size,
        f"| weights | {average} |",
        "" if progress.seconds is None else f"| wall time of the last process | {progress.seconds / 60:.0f} min |",
        f"| code | commit {commit()} |",
    ]
    about = "\n".join(["| | |", "|---|---|", *filter(None, table)])
    sources = "\n".join(f"- `{portable(path)}`" for path in config.data.manifests or config.data.shard_folders)
    return f"""---
library_name: diffusers
pipeline_tag: text-to-video
tags: [{tags}]
---
# {title}

{use}

{about}

Trained on:
{sources}
{then and f"{chr(10)}{then}{chr(10)}"}
## Configuration

```yaml
{yaml.safe_dump(portable(config.model_dump(mode="json")), sort_keys=False).strip()}
```
"""
