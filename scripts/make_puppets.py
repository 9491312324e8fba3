"""Make clips of the embedded world "stage": mp4 with sound, wav stems, ground truth and a manifest.

DIR/video/ID.mp4, DIR/stems/ID.{speech1, speech2, effects, music}.wav, DIR/truth/ID.json, DIR/manifest.jsonl
(last). The same arguments make the same clips; another seed makes clips that share nothing with them (a
held-out set).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from shared.data.manifest import MANIFEST_NAME, Clip, write_manifest
from shared.data.media_write import write_audio, write_video
from shared.puppets.clip import LEVELS, render_clip, sample_spec
from shared.utils.cli_old import Parser
from shared.utils.errors import UserError, run_main
from shared.utils.files import replacing

SETTINGS_NAME = "stage.json"


def main(argv: list[str] | None = None) -> None:
    """Parse, check, render on all cores; the manifest appears only when every clip is there."""
    args = _parse(argv)
    settings = {"seed": args.seed, "level": args.level, "size": list(args.size), "conflict": args.conflict}
    sample_spec(args.seed, 0, args.level, args.size, args.conflict)
    _prepare(args.out, settings)
    make = partial(make_clip, args.out, args.seed, args.level, args.size, args.conflict)
    clips = list(tqdm(_spread(make, args.clips, args.workers), total=args.clips, unit="clip", desc=str(args.out)))
    write_manifest(args.out / MANIFEST_NAME, clips)
    print(f"{len(clips)} clips, {args.out / MANIFEST_NAME}")


def make_clip(out: Path, seed: int, level: str, size: tuple[int, int], conflict: float, index: int) -> Clip:
    """Render clip `index`, write its files below `out`, and return its manifest record."""
    spec = sample_spec(seed, index, level, size, conflict)
    clip = render_clip(spec)
    record = Clip(
        id=spec.id,
        video=out / "video" / f"{spec.id}.mp4",
        caption=clip.caption,
        audio_caption=clip.audio_caption,
        tracks={name: out / "stems" / f"{spec.id}.{name}.wav" for name in clip.stems},
        speakers=[character.kind for character in spec.characters],
        subsets=clip.truth["subsets"],
        truth=out / "truth" / f"{spec.id}.json",
    )
    write_video(record.files()["video"], clip.frames, spec.fps, clip.mix[None], spec.rate)
    for name, stem in clip.stems.items():
        write_audio(record.tracks[name], stem[None], spec.rate)
    _write_json(record.files()["truth"], clip.truth)
    return record


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--clips", type=int, required=True, help="how many clips")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder to fill; new, empty, or made by the same arguments"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--level", default="simple", help=f"one of {', '.join(LEVELS)}")
    parser.add_argument("--size", default="64", help="pixels: 64, or height x width as 64x96")
    parser.add_argument(
        "--conflict",
        type=float,
        default=0.0,
        help="fraction of clips whose text contradicts the sound (subset 'conflict'; never train on them)",
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes; default: all cores")
    args = parser.parse_args(argv)
    for name in ("clips", "workers"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} {getattr(args, name)}: give 1 or more")
    args.size = _size(args.size)
    return args


def _size(text: str) -> tuple[int, int]:
    numbers = text.lower().split("x")
    if len(numbers) > 2 or not all(number.isdecimal() for number in numbers):
        raise UserError(f"--size {text}: give pixels as 64, or height x width as 64x96")
    return int(numbers[0]), int(numbers[-1])


def _prepare(out: Path, settings: dict[str, Any]) -> None:
    """Refuse a folder that holds anything else; take away its manifest: one is only there with all its
    clips."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; give a folder")
    if out.is_dir() and any(out.iterdir()):
        marker = out / SETTINGS_NAME
        if not marker.is_file():
            raise UserError(f"{out}: holds other files; give a new or empty folder")
        found = marker.read_text(encoding="utf-8")
        if found != json.dumps(settings):
            raise UserError(f"{out}: holds clips of other settings, {found[:200]}; give a new folder")
        (out / MANIFEST_NAME).unlink(missing_ok=True)
    try:
        for name in ("video", "stems", "truth"):
            (out / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be made ({error.strerror}); give a folder that can be written") from error
    _write_json(out / SETTINGS_NAME, settings)


def _spread(make: partial[Clip], count: int, workers: int) -> Iterator[Clip]:
    """Clips in order of their index. Forks where the system can: a fresh process imports torch for
    seconds."""
    if min(workers, count) == 1:
        yield from map(make, range(count))
        return
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    with ProcessPoolExecutor(min(workers, count), mp_context=multiprocessing.get_context(method)) as pool:
        yield from pool.map(make, range(count), chunksize=max(1, min(8, count // (4 * workers))))


def _write_json(path: Path, value: dict[str, Any]) -> None:
    with replacing(path) as part:
        part.write_text(json.dumps(value), encoding="utf-8")


if __name__ == "__main__":
    run_main(main)
