"""The model card that a run writes beside its weights."""

from __future__ import annotations

from dataclasses import dataclass

from shared.utils.config import TrainConfig, dump_config
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

    def table(self, config: TrainConfig, first: str = "") -> str:
        """Markdown rows, `first` before the others."""
        train = config.train
        average = f"average of decay {train.ema}" if train.ema and self.average else "of the last step"
        rows = [
            first,
            "" if self.clips is None else f"| clips | {self.clips} |",
            f"| steps | {self.step} of {train.steps} |",
            f"| clips a step | {train.micro_batch * train.gradient_accumulation_steps * self.processes}, "
            f"processes: {self.processes} |",
            f"| weights | {average} |",
            "" if self.seconds is None else f"| wall time of the last process | {self.seconds / 60:.0f} min |",
            f"| code | commit {commit()} |",
        ]
        return "\n".join(["| | |", "|---|---|", *filter(None, rows)])


def model_card(
    config: TrainConfig, progress: Progress, *, title: str, tags: str, use: str, rows: str = "", then: str = ""
) -> str:
    """Markdown: what the weights were trained on, for how long, from which code, and with which configuration.

    `use`: how the checkpoint is read. `rows`: of the table, before the others. `then`: what follows the list of clips.
    """
    sources = "\n".join(f"- `{path}`" for path in config.data.manifests or config.data.shard_folders)
    return f"""---
library_name: diffusers
pipeline_tag: text-to-video
tags: [{tags}]
---
# {title}

{use}

{progress.table(config, rows)}

Trained on:
{sources}
{then and f"{chr(10)}{then}{chr(10)}"}
## Configuration

```yaml
{dump_config(config).strip()}
```
"""
