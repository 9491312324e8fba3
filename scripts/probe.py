"""Measure what a joint checkpoint knows, with little sampling: how well it predicts, and what it attends to.

    python scripts/probe.py --checkpoint outputs/puppets/checkpoint --manifest held_out/manifest.jsonl \\
        --output probe.json

The file holds, by --probes: `loss`, held out, on fixed (clip, noise, u), per task, stream, clip and noise level;
`text`, how much of it the clip's own text explains; `gain`, how much the other stream explains; `leakage`, what else
changes when the given sound or picture is another clip's; `attention`, where cross-modal attention looks; `model`, its
size; if asked for `restore`, at which noise pictures are spoilt, and `long`, whether clips of a minute stay in step;
with --teacher `steps`, how near a distilled model's few steps come to many of the model that it learned from.
docs/probes.md says what each number means. leakage, attention and restore need clips of the puppets
(scripts/make_puppets.py), which know where and when something sounds.
"""

import time
from pathlib import Path
from typing import Any

from ccl.analysis.options import BY_TRUTH, ProbeOptions
from shared.checkpoint.folder import check_checkpoint, load_checkpoint
from shared.data.manifest import Clip, read_manifest
from shared.puppets.clip import read_truth
from shared.utils.cli import device, parse
from shared.utils.errors import UserError, run_main
from shared.utils.files import writable_folder, write_json


def main(argv: list[str] | None = None) -> None:
    options = parse(ProbeOptions, __doc__, argv)
    check_joint("--checkpoint", options.checkpoint)
    for name, folder in (("--against", options.against), ("--teacher", options.teacher)):
        if folder is not None:
            check_joint(name, folder)
    clips = read_manifest(options.manifest)[: options.clips]
    truths = {clip.id: truth_of(clip, options) for clip in clips} if set(options.probes) & BY_TRUTH else {}
    writable_folder("--output", options.output.parent)
    if options.pictures is not None:
        writable_folder("--pictures", options.pictures)
    from ccl.analysis.probe import JointProbe, headlines
    from ccl.pipeline import CCLPipeline
    from shared.data.dataset import survey

    survey(clips, needs_video=True, needs_audio=True)
    begun, where = time.monotonic(), device(options.device)
    first, towers, teacher = (
        None if folder is None else load_checkpoint(CCLPipeline, folder, None, where)
        for folder in (options.checkpoint, options.against, options.teacher)
    )
    assert first is not None, "it is needed"
    result = JointProbe(first, clips, truths, options, towers, teacher).measure()
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


def truth_of(clip: Clip, options: ProbeOptions) -> dict[str, Any]:
    """Truth of a clip; UserError, with what can be done, for a clip that has none."""
    if clip.truth is None:
        rest = ",".join(name for name in options.probes if name not in BY_TRUTH) or "loss,text,gain,model"
        what = (
            f"--manifest {options.manifest}: clip {clip.id!r} has no truth, which leakage, attention and restore need"
        )
        raise UserError(f"{what}; give clips of scripts/make_puppets.py, or --probes {rest}")
    return read_truth(clip.truth)


if __name__ == "__main__":
    run_main(main)
