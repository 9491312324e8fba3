"""A contact sheet of generated clips that nobody chose: the first held-out captions, with seeds 0, 1, 2 and so on."""

from __future__ import annotations

from pathlib import Path

from shared.evaluation.held_out import HeldOut, SamplingJob, TaskSamples, batches
from shared.puppets.sheet import captioned_sheet

SHEET, COUNT = "sheet", 24
"""Name of the sampling jobs, and how many clips are on the sheet at most."""


def sheet_jobs(held_out: HeldOut, batch: int) -> list[SamplingJob]:
    """Jobs that sample clip i from its caption alone with seed i, by the pipeline's defaults, as sample_joint.py."""
    jobs = []
    for clips in batches(held_out.specs[:COUNT], batch):
        specs = [held_out.specs[i] for i in clips]
        call = {"prompt": [held_out.captions[i][0] for i in clips], "task": "t2av", "seed": clips}
        jobs.append(SamplingJob(SHEET, clips, specs, "joint", call | {"duration": specs[0].duration}))
    return jobs


def write_sheet(path: Path, held_out: HeldOut, samples: TaskSamples) -> None:
    """Write frames and captions of what was sampled; the ending of `path` says in which format."""
    order = sorted(samples.clips)
    captions = [f"{i}: {held_out.captions[i][0]}" for i in order]
    path.parent.mkdir(parents=True, exist_ok=True)
    captioned_sheet([samples.clips[i]["frames"] for i in order], captions).save(path, quality=82)
