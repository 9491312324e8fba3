"""Look at every clip of a manifest before training: the doctor of a data set (docs/data.md).

    python scripts/check_data.py --manifest data/clips
    python scripts/check_data.py --manifest data/clips --checkpoint outputs/mine/checkpoint --report report.html

Per clip: duration, frame rate (true, varying), size, offset and level of the sound, clipping, share of speech,
captions, tracks, with --checkpoint the latents; and a verdict: ok, warn or refuse (training would refuse it), and why.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from shared.checkpoint.folder import check_checkpoint
from shared.checkpoint.registry import find_component, load_component
from shared.evaluation.doctor_page import doctor_page
from shared.utils.cli_old import Parser
from shared.utils.errors import UserError, run_main
from shared.utils.files import write_atomically

if TYPE_CHECKING:  # arguments are looked at before torch is loaded
    from shared.data.doctor import Finding
    from shared.data.manifest import Clip

VERDICTS = ("ok", "warn", "refuse")
_sanity: Callable[[Any, Any], None] | None = None  # of this process: codecs are loaded once, not with every clip


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, examine, report; exit code 1 with --strict if a clip is refused."""
    args = _parse(argv)
    latents = _latent_options(args)
    from shared.data.doctor import read_clips, speech_measure

    clips = read_clips(args.manifest)
    progress = tqdm(_spread(clips, latents, args.workers), total=len(clips), unit="clip", desc=str(args.manifest))
    findings = list(progress)
    if args.report:
        found = [vars(finding) | {"verdict": finding.verdict} for finding in findings]
        is_page = args.report.suffix == ".html"
        _write(args.report, doctor_page(_summary(findings, speech_measure()), found) if is_page else _lines(findings))
    for finding in findings:
        if finding.verdict != "ok":
            print(f"{finding.verdict}: clip {finding.id!r}: {'; '.join([*finding.refused, *finding.warnings])}")
    print(_summary(findings, speech_measure()))
    if args.strict and any(finding.refused for finding in findings):
        sys.exit(1)


def examine_one(clip: Clip | Finding) -> Finding:
    """The finding about one clip; one that is there already stays."""
    from shared.data.doctor import Finding, examine

    return clip if isinstance(clip, Finding) else examine(clip, _sanity)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--manifest", type=Path, required=True, help="manifest.jsonl, or a folder of X.mp4 with X.txt")
    parser.add_argument("--report", type=Path, help="FILE.html to look at, or FILE.jsonl with a line per clip")
    parser.add_argument("--checkpoint", type=Path, help="encode every clip with its codecs, and look at the latents")
    parser.add_argument("--sigma", type=float, default=3.0, help="their deviation may be 1/SIGMA to SIGMA (default 3)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes; default: all cores")
    parser.add_argument("--strict", action="store_true", help="exit code 1 if a clip is refused")
    args = parser.parse_args(argv)
    if args.workers < 1:
        raise UserError(f"--workers {args.workers}: give 1 or more")
    if not args.sigma > 1:
        raise UserError(f"--sigma {args.sigma}: give more than 1")
    if args.report and args.report.suffix not in (".html", ".jsonl"):
        raise UserError(f"--report {args.report}: give FILE.html or FILE.jsonl")
    if args.report and not args.report.absolute().parent.is_dir():
        raise UserError(f"--report {args.report}: the folder does not exist; make it first")
    return args


def _latent_options(args: argparse.Namespace) -> dict[str, Any] | None:
    """What a process needs to look at latents."""
    if args.checkpoint is None:
        return None
    index = check_checkpoint(args.checkpoint)
    if not {"fps", "height", "width"} <= index.keys():
        raise UserError(f"--checkpoint {args.checkpoint}: says no fps, height and width; one of ours is needed")
    return {
        "sources": [find_component(name, args.checkpoint) for name in ("video_codec", "audio_codec")],
        "fps": index["fps"],
        "size": (index["height"], index["width"]),
        "sigma": args.sigma,
    }


def _spread(clips: list[Any], latents: dict[str, Any] | None, workers: int) -> Iterator[Finding]:
    """Findings in the clips' order, from this process or from several."""
    if min(workers, len(clips)) == 1:
        _adopt(latents)
        yield from map(examine_one, clips)
        return
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(min(workers, len(clips)), context, initializer=_adopt, initargs=(latents,)) as pool:
        yield from pool.map(examine_one, clips)


def _adopt(latents: dict[str, Any] | None) -> None:
    """Load the codecs, on the CPU, one thread each: the processes are many."""
    global _sanity
    _sanity = None
    if latents is not None:
        import torch

        from shared.data.doctor import LatentSanity

        torch.set_num_threads(1)
        video, audio = (load_component(source) for source in latents["sources"])
        _sanity = LatentSanity((video, audio), latents["fps"], latents["size"], latents["sigma"])


def _summary(findings: list[Finding], measure: str) -> str:
    """A few lines for the end."""
    counts = {verdict: sum(finding.verdict == verdict for finding in findings) for verdict in VERDICTS}
    lines = [f"{len(findings)} clips: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items())]
    for name, unit in (("seconds", "s"), ("fps_true", "fps"), ("level_dbfs", "dBFS"), ("speech_share", measure)):
        values = [f.facts[name] for f in findings if f.facts.get(name) is not None and f.facts[name] > -1e9]
        if values:
            spread = f"{min(values):g} to {max(values):g}, median {median(values):g}"
            lines.append(f"{name.replace('_', ' ')}: {spread} ({unit})")
    return "\n".join(lines)


def _lines(findings: list[Finding]) -> str:
    return "".join(json.dumps(finding.as_dict(), ensure_ascii=False) + "\n" for finding in findings)


def _write(path: Path, text: str) -> None:
    try:
        write_atomically(path, text)
    except OSError as error:
        raise UserError(f"--report {path}: cannot be written ({error.strerror})") from error


if __name__ == "__main__":
    run_main(main)
