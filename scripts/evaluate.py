"""Measure a checkpoint on held-out clips of the puppets: do video and audio agree, and do they follow the caption?

    python scripts/evaluate.py --checkpoint assets/puppets --suite puppets --level simple --clips 24 --output \\
        outputs/eval

Writes OUTPUT/metrics.json (every score with ceiling, floor, headline and bootstrap interval) and OUTPUT/index.html,
which shows the first clips. The clips come from a seed of their own (HELD_OUT_SEED), which no training data may use.
With --no-context every clip is sampled on the route 0m, where no stream reads the other: sync must fall to the floor.

Task mtv drives the video by the clips' true tracks and, with --variants all, again with one track swapped: what belongs
to it must follow, the rest stay. --against compares clip by clip with the metrics.json of another evaluation.
Stopped, the same command goes on from OUTPUT/unfinished, batch by batch, to the same numbers.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from shared.checkpoint.folder import check_checkpoint, load_checkpoint
from shared.evaluation.kept_samples import KeptSamples
from shared.evaluation.options import JOINT_TASKS, EvaluationOptions
from shared.utils.allocator import keep_freed_memory
from shared.utils.cli import device, parse
from shared.utils.digest import settings_digest
from shared.utils.errors import run_main
from shared.utils.files import read_json, writable_folder
from shared.utils.startup import quick_imports

if TYPE_CHECKING:
    from shared.evaluation.run import EvaluatedModel, TrackTools


def main(argv: list[str] | None = None) -> None:
    options = parse(EvaluationOptions, __doc__, argv)
    options = options.settled(check_checkpoint(options.checkpoint, options.trust_package))
    against = options.read_against()
    writable_folder("--output", options.output)
    files = sorted(path for path in options.checkpoint.rglob("*") if path.is_file())
    digest = settings_digest(options, files, ("output", "against", "sheet", "card"))
    with KeptSamples.of(options.output, digest) as kept:
        pipelines = load(options, str(device(options.device)))
        from shared.evaluation.run import evaluate

        evaluate(evaluated(pipelines, options), options, against, kept)
    if options.card:
        from shared.training.card import add_metrics

        add_metrics(options.checkpoint, read_json(options.output / "metrics.json"), f"{options.suite}, {options.level}")


@quick_imports()
def load(options: EvaluationOptions, where: str) -> dict[str, Any]:
    """Pipelines that the tasks need, "joint" and "mtv", as the options have them; both share one set of weights."""
    keep_freed_memory()
    from ccl.pipeline import CCLPipeline  # both, always: a folder's parts are loaded from modules that are imported
    from mtv.pipeline import MTVPipeline
    from shared.nn.cache_context import cache_steps

    tasks = options.tasks or ()
    kind = CCLPipeline if set(tasks) & set(JOINT_TASKS) else MTVPipeline
    first: Any = load_checkpoint(kind, options.checkpoint, None, where, options.trust_package)
    if options.fps is not None:
        first.register_to_config(fps=options.fps)
    cache_steps(first.transformer, options.step_cache)
    if kind is MTVPipeline:
        return {"mtv": first}
    joint = first
    return {"joint": joint, "mtv": MTVPipeline.from_pipe(joint)} if "mtv" in tasks else {"joint": joint}


def evaluated(pipelines: dict[str, Any], options: EvaluationOptions) -> EvaluatedModel:
    """Pipelines with their guidance, and how other processes load them."""
    from ccl.guidance import Form, Guidance
    from mtv.guidance import TrackGuidance
    from shared.encoders.timed_prompts import TimedPrompts
    from shared.evaluation.run import EvaluatedModel
    from shared.nn.few_steps import FewSteps

    guidance: dict[str, Any] = {}
    if "joint" in pipelines:
        given = options.model_dump(include={"text_scale", "context_scale", "interval"}, exclude_none=True)
        form = Form(options.guidance) if options.guidance else None
        if options.no_context:
            form, given["context_scale"], given["interval"] = Form("dual"), (0.0, 0.0), (0.0, 1.0)
        model = pipelines["joint"].transformer
        few = FewSteps.of(model) is not None
        guidance["joint"] = Guidance(form, **given).settled(model.has_unconditional, few)
    if "mtv" in pipelines:
        few = FewSteps.of(pipelines["mtv"].transformer) is not None
        guidance["mtv"] = TrackGuidance(**options.scales()).settled(few)
    where = str(next(iter(pipelines.values())).device)
    reload = partial(load, options, where)
    return EvaluatedModel(pipelines, guidance, reload, track_tools(), TimedPrompts)


def track_tools() -> TrackTools:
    """Collect what mtv's cases are made with."""
    import torch

    from mtv.captions import drop_speaker
    from mtv.separation import demixer
    from mtv.tracks import Tracks
    from shared.evaluation.run import TrackTools

    def tracks_of(case: Any) -> Tracks:
        speech, effects, music = (
            [torch.from_numpy(stem.copy())[None] for name, stem in case.stems.items() if name.startswith(track)]
            for track in ("speech", "effects", "music")
        )
        return Tracks(speech, effects[0], music[0], case.spec.rate)

    def separate(mix: Any, rate: int) -> dict[str, Any]:
        return {name: track[0] for name, track in demixer("dsp").separate(mix[None], rate).items()}

    return TrackTools(tracks_of, drop_speaker, separate)


if __name__ == "__main__":
    run_main(main)
