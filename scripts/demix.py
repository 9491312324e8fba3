"""Take the sound of every clip apart into speech, effects and music.

python scripts/demix.py --manifest data/clips --output data/clips_demixed --demixer dsp

DIR/tracks/ID/{speech, effects, music}.wav at the sound's own rate and channels, and DIR/manifest.jsonl (last): the
clips with these as their tracks. A track below -45 dBFS is written as exact zeros. Run again to go on where it
stopped. Clips that fail are listed at the end, the manifest holds the others, and the exit code is 1. With --measure
the tracks are compared with those that the manifest already has.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mtv.separation import TRACKS, Audio, Demixer, demixer
from shared.data.manifest import MANIFEST_NAME, Clip, read_manifest, write_manifest
from shared.data.media import is_silent, probe, read_audio, write_audio
from shared.evaluation.separation import residual_dbfs, si_sdr
from shared.utils.cli_old import Parser
from shared.utils.errors import UserError, run_main
from shared.utils.files import write_atomically

SETTINGS_NAME = "demix.json"
DEMIXERS = ("dsp", "demucs-cdx23")

Scores = dict[str, tuple[float, float | None]]
"""By track: SI-SDR of the estimate and of the mix in dB; or, where the truth is silence, what is left in dBFS, None."""

_demixer: Demixer | None = None  # of this process: models are handed to a worker once, not with every clip


@dataclass(frozen=True)
class Outcome:
    """What became of one clip: the clip with its new tracks, or the reason why there is none."""

    clip: Clip
    error: str = ""
    scores: Scores | None = None


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, check, separate; exit code 1 if a clip failed."""
    args = _parse(argv)
    clips = read_manifest(args.manifest)
    if args.measure and not any(_truth(clip) for clip in clips):
        raise UserError(f"{args.manifest}: no clip has tracks; --measure needs true ones to compare with")
    separator = _make_demixer(args)
    _prepare(args)
    work = partial(process, args.output, measure=args.measure)
    progress = tqdm(_spread(work, clips, separator, args.workers), total=len(clips), unit="clip", desc=str(args.output))
    outcomes = list(progress)
    done = [outcome for outcome in outcomes if not outcome.error]
    if done:
        write_manifest(args.output / MANIFEST_NAME, [outcome.clip for outcome in done])
        print(f"{len(done)} clips, {args.output / MANIFEST_NAME}")
    if args.measure:
        print(_table([outcome.scores for outcome in done if outcome.scores]))
    failed = [outcome for outcome in outcomes if outcome.error]
    if failed:
        for outcome in failed:
            print(f"failed: clip {outcome.clip.id!r}: {outcome.error}", file=sys.stderr)
        print(f"{len(failed)} of {len(clips)} clips failed; the manifest is without them", file=sys.stderr)
        sys.exit(1)


def process(output: Path, clip: Clip, measure: bool) -> Outcome:
    """Separate one clip unless its files are there already, and measure it if wanted and possible."""
    try:
        files = _separated(output, clip)
        scores = _measured(clip, files) if measure and _truth(clip) else None
    except UserError as error:
        return Outcome(clip, str(error))
    except Exception as error:  # one clip must not cost hours of others; it is reported and the exit code is 1
        return Outcome(clip, f"{type(error).__name__}: {error}")
    return Outcome(clip.model_copy(update={"tracks": files}), scores=scores)


def _separated(output: Path, clip: Clip) -> dict[str, Path]:
    """The track files of `clip`; each appears when it is complete, so three files are a clip that is done."""
    if Path(clip.id).name != clip.id:
        raise UserError(f"the id {clip.id!r} cannot name a folder; an id without / is needed")
    files = {name: output / "tracks" / clip.id / f"{name}.wav" for name in TRACKS}
    if all(file.is_file() for file in files.values()):
        return files
    assert _demixer is not None
    mix, rate = _mix(clip)
    tracks = _demixer.separate(mix, rate)
    # start and end cut the tracks like the sound, so a track begins where its sound's file does
    before = ((0, 0), (round(clip.start * rate), 0))
    for name, track in tracks.items():
        write_audio(files[name], np.pad(np.zeros_like(track) if is_silent(track) else track, before), rate)
    return files


def _mix(clip: Clip) -> tuple[Audio, int]:
    """The clip's sound between its start and end, [1 or 2, N], and its rate; more channels become their mean."""
    assert clip.audio is not None  # Clip guarantees it
    info = probe(clip.audio)
    if info.rate is None:
        raise UserError(f"{clip.audio}: has no sound; a clip with a sound track is needed")
    mono = (info.channels or 1) > 2
    return read_audio(clip.audio, info.rate, mono, clip.start, clip.end), info.rate


def _truth(clip: Clip) -> dict[str, list[Path]]:
    """Files of the clip's own tracks by name; the speakers' tracks together are the speech."""
    found: dict[str, list[Path]] = {}
    for name, path in clip.tracks.items():
        found.setdefault("speech" if name.startswith("speech") else name, []).append(path)
    return found


def _measured(clip: Clip, files: dict[str, Path]) -> Scores:
    """Mono, over the span that mix and truth share."""
    mix, rate = _mix(clip)
    mix = mix.mean(0, keepdims=True)
    scores: Scores = {}
    for name, paths in _truth(clip).items():
        parts = [read_audio(path, rate, True, clip.start, clip.end) for path in paths]
        found = read_audio(files[name], rate, True, clip.start, clip.end)
        count = min(sound.shape[1] for sound in (mix, found, *parts))
        truth = np.sum([part[:, :count] for part in parts], axis=0)
        if truth.any():
            scores[name] = si_sdr(found[:, :count], truth), si_sdr(mix[:, :count], truth)
        else:
            scores[name] = residual_dbfs(found[:, :count]), None
    return scores


def _table(all_scores: list[Scores]) -> str:
    """Means over clips; a true track that is silent has no SI-SDR and is told by what is left on it."""
    lines = [
        "| track | clips | SI-SDR, dB (median) | SI-SDR of the mix, dB | silent clips | left on them, dBFS |",
        "|---|---|---|---|---|---|",
    ]
    for name in TRACKS:
        scored = [scores[name] for scores in all_scores if name in scores]
        ratios = [(found, mix) for found, mix in scored if mix is not None]
        left = [found for found, mix in scored if mix is None]
        cells = ["-", "-"]
        if ratios:
            found, mix = np.array(ratios).T
            cells = [f"{found.mean():.1f} ({np.median(found):.1f})", f"{mix.mean():.1f}"]
        silent = f"{np.mean(left):.1f}" if left else "-"
        lines.append(f"| {name} | {len(ratios)} | {cells[0]} | {cells[1]} | {len(left)} | {silent} |")
    return "\n".join(lines)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--manifest", type=Path, required=True, help="manifest.jsonl, or a folder of X.mp4 with X.txt")
    parser.add_argument("--output", type=Path, required=True, help="folder to fill; new, empty, or made by this script")
    parser.add_argument("--demixer", default="dsp", help=f"one of {', '.join(DEMIXERS)} (default dsp)")
    parser.add_argument(
        "--checkpoint", type=Path, nargs="+", default=[], help="MVSEP-CDX23 .th files; several are an ensemble"
    )
    parser.add_argument("--device", default="cpu", help="where demucs-cdx23 runs (default cpu)")
    parser.add_argument("--measure", action="store_true", help="compare with the tracks that the manifest has")
    parser.add_argument("--workers", type=int, help="processes; default: all cores for dsp, else 1")
    args = parser.parse_args(argv)
    if args.demixer not in DEMIXERS:
        raise UserError(f"--demixer {args.demixer}: give one of {', '.join(DEMIXERS)}")
    if args.demixer == "dsp" and (args.checkpoint or args.device != "cpu"):
        raise UserError("--demixer dsp: has no checkpoint and runs on the CPU; --demixer demucs-cdx23 takes these")
    if args.workers is None:
        args.workers = (os.cpu_count() or 1) if args.demixer == "dsp" else 1
    if args.workers < 1:
        raise UserError(f"--workers {args.workers}: give 1 or more")
    if args.workers > 1 and args.device != "cpu":
        raise UserError(f"--workers {args.workers}: on {args.device} one process is needed; give 1")
    return args


def _make_demixer(args: argparse.Namespace) -> Demixer:
    if args.demixer == "dsp":
        return demixer("dsp")
    return demixer(args.demixer, checkpoints=args.checkpoint, device=args.device)


def _prepare(args: argparse.Namespace) -> None:
    """Refuse a folder that holds anything else; take away its manifest: one is only there when all is done."""
    settings = {
        "manifest": str(args.manifest.resolve()),
        "demixer": args.demixer,
        "checkpoints": [str(path.resolve()) for path in args.checkpoint],
    }
    out, marker = args.output, args.output / SETTINGS_NAME
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; give a folder")
    if out.is_dir() and any(out.iterdir()):
        if not marker.is_file():
            raise UserError(f"{out}: holds other files; give a new or empty folder")
        found = marker.read_text(encoding="utf-8")
        if found != json.dumps(settings):
            raise UserError(f"{out}: holds tracks of other settings, {found[:300]}; give a new folder")
        (out / MANIFEST_NAME).unlink(missing_ok=True)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(marker, json.dumps(settings))
    except OSError as error:
        raise UserError(f"{out}: cannot be made ({error.strerror}); give a folder that can be written") from error


def _spread(work: Callable[[Clip], Outcome], clips: list[Clip], separator: Demixer, workers: int) -> Iterator[Outcome]:
    """Outcomes in the clips' order, from this process or from several."""
    if min(workers, len(clips)) == 1:
        _adopt(separator)
        yield from map(work, clips)
        return
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(min(workers, len(clips)), context, initializer=_adopt, initargs=(separator,)) as pool:
        yield from pool.map(work, clips)


def _adopt(separator: Demixer) -> None:
    global _demixer
    _demixer = separator


if __name__ == "__main__":
    run_main(main)
