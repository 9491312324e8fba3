"""Measure what a joint checkpoint knows, with little sampling: how well it predicts, and what it attends to.

    python scripts/probe.py --checkpoint outputs/puppets/checkpoint --manifest held_out/manifest.jsonl \\
        --output probe.json

The file holds, by --probes: `loss`, held out, on fixed (clip, noise, u), per task, stream, clip and noise level;
`gain`, how much of it the other stream explains; `leakage`, what else changes when the given sound or picture is
another clip's; `attention`, where cross-modal attention looks; `model`, its size. docs/probes.md says what each number
means. leakage and attention need clips of the puppets (scripts/make_puppets.py), which know where and when something
sounds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, model_validator

from shared.checkpoint.folder import check_checkpoint, load_checkpoint
from shared.data.manifest import Clip, read_manifest
from shared.puppets.truth import read_truth
from shared.utils import cli
from shared.utils.cli import option, parse, some_of
from shared.utils.errors import UserError, run_main
from shared.utils.files import writable_folder, write_json

PROBES = ("loss", "gain", "leakage", "attention", "model")
BY_TRUTH = {"leakage", "attention"}


class Options(cli.Options):
    """What probe.py is asked to measure."""

    checkpoint: Path = option(metavar="DIR")
    manifest: Path = option(help="held-out clips", metavar="FILE")
    output: Path = option(help="the numbers, a .json", metavar="FILE")
    clips: int = option(64, "the first so many clips", ge=1)
    probes: Annotated[tuple[str, ...], BeforeValidator(some_of(PROBES))] = option(
        PROBES, f"some of {','.join(PROBES)}; default: all", one_word=True
    )
    against: Path | None = option(None, "the checkpoint of the towers before joint training: forgetting", metavar="DIR")
    pictures: Path | None = option(None, "attention maps of the first clips as png files", metavar="DIR")
    levels: int = option(8, "noise levels of the loss", ge=1)
    sampled: int = option(16, "clips that leakage samples", ge=2)
    steps: int = option(16, "solver steps of leakage", ge=1)
    batch: int = option(16, "clips at a time", ge=1)
    seed: int = option(0, "of the noise")
    device: str = option("auto", "auto (default: a GPU if there is one), cpu, cuda, cuda:1 ...")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.pictures is not None and "attention" not in self.probes:
            raise ValueError("--pictures shows attention; give --probes attention with it, or leave it out")
        if self.against is not None and "loss" not in self.probes:
            raise ValueError("--against compares losses; give --probes loss with it, or leave it out")
        if self.output.suffix != ".json" or self.output.is_dir():
            raise ValueError(f"--output {self.output}: the name of a file is needed, and must end in .json")
        return self


def main(argv: Sequence[str] | None = None) -> None:
    """Check, load, measure, write."""
    options = parse(Options, __doc__, argv)
    for name, folder in (("--checkpoint", options.checkpoint), ("--against", options.against)):
        if folder is not None:
            check_joint(name, folder)
    clips = read_manifest(options.manifest)[: options.clips]
    truths = {clip.id: truth_of(clip, options) for clip in clips} if set(options.probes) & BY_TRUTH else {}
    writable_folder("--output", options.output.parent)
    if options.pictures is not None:
        writable_folder("--pictures", options.pictures)
    from ccl.analysis.probe import JointProbe, ProbeSettings, headlines
    from ccl.pipeline import CCLPipeline
    from shared.data.dataset import survey

    survey(clips, needs_video=True, needs_audio=True)
    begun = time.monotonic()
    folders = [folder for folder in (options.checkpoint, options.against) if folder is not None]
    pipelines = [load_checkpoint(CCLPipeline, folder, None, cli.device(options.device)) for folder in folders]
    chosen = {name: getattr(options, name) for name in ("probes", "seed", "batch", "steps", "sampled")}
    settings = ProbeSettings(**chosen, levels=options.levels, pictures=options.pictures)
    result = JointProbe(pipelines[0], clips, truths, settings, *pipelines[1:]).measure()
    files = {name: getattr(options, name) for name in ("checkpoint", "manifest", "against")}
    named = {name: None if file is None else str(file) for name, file in files.items()}
    result["settings"] = {**named, **result["settings"], **chosen, "probes": list(options.probes)}
    result["settings"]["seconds"] = round(time.monotonic() - begun, 1)
    write_json(options.output, result)
    print("\n".join(headlines(result)))
    print(options.output)


def check_joint(option: str, folder: Path) -> None:
    """Raise UserError unless the folder holds a checkpoint of a joint model."""
    index = check_checkpoint(folder)
    kind = index.get("transformer") or ["", ""]
    if not (kind[0] or "").startswith("ccl.") or not (index.get("audio_codec") or [None])[0]:
        raise UserError(f"{option} {folder}: holds no joint model; a checkpoint of scripts/train_ccl.py is needed")


def truth_of(clip: Clip, options: Options) -> dict[str, Any]:
    """Truth of a clip; UserError, with what can be done, for a clip that has none."""
    if clip.truth is None:
        rest = ",".join(name for name in options.probes if name not in BY_TRUTH) or "loss,gain,model"
        raise UserError(
            f"--manifest {options.manifest}: clip {clip.id!r} has no truth, which leakage and attention need; give "
            f"clips of scripts/make_puppets.py, or --probes {rest}"
        )
    return read_truth(clip.truth)


if __name__ == "__main__":
    run_main(main)
