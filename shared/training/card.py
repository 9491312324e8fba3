"""The model card that a run writes beside its weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from shared.checkpoint.provenance import provenance
from shared.utils.config import TrainConfig
from shared.utils.errors import UserError
from shared.utils.files import write_atomically
from shared.utils.portable import portable
from shared.utils.version import commit
from shared.utils.weights_folder import ADVICE


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
    start = config.init or config.init_streams or getattr(config, "backbone", None)
    data = ModelCardData(
        library_name="diffusers", pipeline_tag="text-to-video", tags=tags.split(", "), **provenance(start)
    )  # fmt: skip
    return f"""---
{data.to_yaml()}
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


def add_metrics(folder: Path, metrics: Mapping[str, Any], dataset: str) -> None:
    """Put the scores of an evaluation (`metrics.json` of scripts/evaluate.py) into the card of a checkpoint, in the
    hub's own schema; scores of the same name and data give way. UserError if the folder has no card."""
    file = folder / "README.md"
    if not file.is_file():
        raise UserError(f"checkpoint {folder}: has no README.md, its model card; {ADVICE}")
    results = [
        EvalResult(
            task_type="text-to-video", task_name=task, dataset_type="puppets", dataset_name=dataset, metric_type=name,
            metric_name=f"{task}: {name.replace('_', ' ')}", metric_value=score["value"],
        )
        for task, about in metrics["tasks"].items() for name, score in about.get("scores", {}).items()
        if score.get("value") is not None
    ]  # fmt: skip
    card = ModelCard.load(file)
    seen = {(one.dataset_name, one.metric_name) for one in results}
    kept = [one for one in card.data.eval_results or [] if (one.dataset_name, one.metric_name) not in seen]
    card.data.model_name, card.data.eval_results = folder.resolve().name, [*kept, *results]
    write_atomically(file, str(card))
