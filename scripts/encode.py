"""Encode clips into latent shards that training reads (docs/data.md).

    python scripts/encode.py --manifest data/clips --checkpoint outputs/mine/checkpoint --output data/latents
    torchrun --nproc-per-node 8 scripts/encode.py --manifest data/clips --video-codec models/wan \\
        --audio-codec models/ltx --text-encoder models/wan --fps 16 --size 352 640 --output data/latents

DIR/00000.tar ... with video and audio latents, embeddings of both captions and, with --tracks, features of the tracks;
DIR/report.jsonl, a line per clip; DIR/index.json, last. Run again to go on where it stopped: finished shards are kept.
Clips that fail are listed at the end, the shards hold the others, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from shared.checkpoint.folder import check_checkpoint
from shared.checkpoint.registry import COMPONENTS, ComponentSource, find_component, load_component
from shared.data.manifest import Clip, read_manifest
from shared.utils.cli_old import Parser
from shared.utils.cli_old import device as parse_device
from shared.utils.config import Tracks
from shared.utils.errors import UserError, run_main
from shared.utils.files import write_atomically

if TYPE_CHECKING:  # arguments and manifest are looked at before torch is loaded
    import torch

    from shared.data.clip_encoder import ClipEncoder, TrackRows
    from shared.data.shard_writer import ShardFolder

SETTINGS_NAME = "encode.json"
NEEDS = {"both": ("video", "audio"), "video": ("video",), "audio": ("audio",)}
_queue: Any = None  # of this process: where it tells how many clips it has done


@dataclass(frozen=True)
class Job:
    """All that a process needs to know."""

    args: argparse.Namespace
    clips: list[Clip]
    sources: dict[str, ComponentSource]
    settings: dict[str, Any]
    ranks: int
    local: int  # processes on this machine, which share its cores and devices

    def folder(self) -> ShardFolder:
        from shared.data.shard_writer import ShardFolder

        return ShardFolder(self.args.output, self.clips, self.args.shard_clips, self.settings)


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, check, encode, write the index; exit code 1 if a clip failed."""
    args = _parse(argv)
    rank, ranks = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    sources = _sources(args)
    clips = read_manifest(args.manifest)
    if args.tracks and (bare := [clip.id for clip in clips if not clip.tracks]):
        raise UserError(
            f"--tracks: {len(bare)} of {len(clips)} clips, {bare[0]!r} first, have no tracks; separate their sound "
            "with scripts/demix.py, or leave --tracks out"
        )
    settings = _settings(args)
    _prepare(args.output, settings)
    local = args.workers * int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    job = Job(args, clips, sources, settings, ranks * args.workers, local)
    folder = job.folder()
    if rank == 0:
        folder.clear()
    _encode(job, range(rank * args.workers, (rank + 1) * args.workers))
    _report(folder, args.output, len(clips))


def encode_part(job: Job, part: int, tick: Callable[[int], object]) -> None:
    """One process's shards, from loading the components on."""
    import torch

    args = job.args
    device = parse_device(args.device)
    if device.type == "cuda" and device.index is None:
        local = int(os.environ.get("LOCAL_RANK", 0)) * args.workers + part % args.workers
        device = torch.device("cuda", local % torch.cuda.device_count())
    if device.type == "cpu" and job.local > 1 and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // job.local))  # otherwise they spin against each other
    job.folder().encode(_encoder(job, device), part, job.ranks, tick)


def _encode(job: Job, parts: range) -> None:
    """This machine's or rank's processes: itself, or `--workers` of them."""
    share = [clip for number, part in enumerate(job.folder().parts) if number % job.ranks in parts for clip in part]
    with tqdm(total=len(share), unit="clip", desc=str(job.args.output), disable=parts[0] > 0) as bar:
        if len(parts) == 1:
            encode_part(job, parts[0], bar.update)
            return
        fork = parse_device(job.args.device).type == "cpu" and "fork" in multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("fork" if fork else "spawn")
        queue = context.SimpleQueue()
        with ProcessPoolExecutor(len(parts), context, initializer=_adopt, initargs=(queue,)) as pool:
            waiting = {pool.submit(_encode_in_worker, job, part) for part in parts}
            try:
                while waiting:
                    done, waiting = wait(waiting, timeout=0.2)
                    while not queue.empty():
                        bar.update(queue.get())
                    for future in done:
                        future.result()
            except BrokenProcessPool as error:
                advice = "run again to go on, with fewer --workers if memory is short"
                raise UserError(f"{job.args.output}: a process was killed; {advice}") from error


def _encode_in_worker(job: Job, part: int) -> None:
    encode_part(job, part, _queue.put)


def _adopt(queue: Any) -> None:
    global _queue
    _queue = queue


def _report(folder: ShardFolder, output: Path, count: int) -> None:
    failed = folder.finish()
    if failed is None:
        print(f"{output}: this process is done; the last one writes index.json")
        return
    if len(failed) < count:
        print(f"{count - len(failed)} clips in {len(folder.parts)} shards, {output / 'index.json'}")
    for failure in failed:
        print(f"failed: clip {failure['id']!r}: {failure['reason']}", file=sys.stderr)
    if failed:
        print(f"{len(failed)} of {count} clips failed; the shards are without them", file=sys.stderr)
        sys.exit(1)


def _encoder(job: Job, device: torch.device) -> ClipEncoder:
    """Load the components. UserError if one cannot be read or does not suit the settings."""
    import torch

    from shared.data.clip_encoder import ClipEncoder
    from shared.utils.config import Data

    args = job.args
    parts = {}
    for name, source in job.sources.items():
        dtype = {"torch_dtype": torch.bfloat16} if name == "text_encoder" and args.text_dtype == "bf16" else {}
        parts[name] = load_component(source, **dtype).to(device)
    video, audio = parts["video_codec"], parts["audio_codec"]
    if args.low_memory and hasattr(video, "low_memory"):
        video.low_memory()
    data = Data(manifest="", fps=args.fps, size=args.size[0], sample_rate=audio.sample_rate, duration=args.duration)
    return ClipEncoder(
        clips=job.clips,
        data=data,
        sizes=args.size,
        codecs=(video, audio),
        text_encoder=parts["text_encoder"],
        device=device,
        texts=_texts_with_tracks if args.tracks else _texts,
        needs=NEEDS[args.needs],
        stills=args.stills,
        tracks=_tracks(job, device) if args.tracks else None,
        threads=args.threads,
    )


def _tracks(job: Job, device: torch.device) -> TrackRows:
    """Features of tracks, as training itself makes and keeps them."""
    from mtv.track_features import TrackStore, encoder_key
    from shared.data.clip_encoder import TrackRows
    from shared.encoders.audio import audio_features

    specs = job.args.track_encoders
    named = {spec: audio_features(spec).to(device) for spec in sorted(set(specs.values()))}
    encoders = {track: named[spec] for track, spec in specs.items()}
    frames = {clip.id: 0 for clip in job.clips}  # known when a clip's pictures are
    store = TrackStore(Path(os.devnull), job.clips, frames, job.args.fps, encoders)

    def rows(clip: Clip, count: int) -> dict[str, torch.Tensor]:
        frames[clip.id] = count
        ((_, (tensors, _)),) = store._made([clip.id])
        return tensors

    return TrackRows(rows, {track: encoder_key(encoder) for track, encoder in encoders.items()})


def _texts(clip: Clip) -> dict[str, str]:
    """What is embedded of a clip, by name: equal texts once."""
    texts = {"text": clip.caption, "audio_text": clip.audio_caption}
    return {name: text for i, (name, text) in enumerate(texts.items()) if text and text not in [*texts.values()][:i]}


def _texts_with_tracks(clip: Clip) -> dict[str, str]:
    """For task mtv also the caption that does not say who speaks."""
    from mtv.captions import without_speaker

    texts = _texts(clip)
    try:
        untold = without_speaker(clip.caption)
    except UserError:  # of another form than MTV's template: training takes it as it is
        return texts
    return texts if untold in texts.values() else texts | {"untold_text": untold}


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--manifest", type=Path, required=True, help="manifest.jsonl, or a folder of X.mp4 with X.txt")
    parser.add_argument("--output", type=Path, required=True, help="folder to fill; new, empty, or made by this script")
    parser.add_argument("--checkpoint", type=Path, help="checkpoint folder whose codecs and text encoder are used")
    for option in ("--video-codec", "--audio-codec", "--text-encoder"):
        parser.add_argument(option, help="its folder or hub id, instead of the checkpoint's")
    parser.add_argument("--fps", type=float, help="pictures per second (default: the checkpoint's)")
    parser.add_argument(
        "--size", type=int, nargs=2, action="append", metavar=("HEIGHT", "WIDTH"),
        help="pixels (default: the checkpoint's); given several times, each clip takes the nearest shape",
    )  # fmt: skip
    parser.add_argument("--duration", type=float, help="seconds from each clip's start (default: all of it)")
    parser.add_argument("--needs", default="both", choices=list(NEEDS), help="refuse clips without it (default both)")
    parser.add_argument("--stills", action="store_true", help="every latent as a keyframe too, for keyframes > 0")
    parser.add_argument("--tracks", action="store_true", help="features of the clips' tracks too, for task mtv")
    parser.add_argument(
        "--track-encoders", default="log-mel", metavar="SPEC or SPEECH,EFFECTS,MUSIC",
        help="log-mel, wav2vec2:PATH_OR_ID or ast:PATH_OR_ID (default log-mel)",
    )  # fmt: skip
    parser.add_argument("--text-dtype", default="fp32", choices=["fp32", "bf16"], help="in which UMT5 runs")
    parser.add_argument("--low-memory", action="store_true", help="the video codec works in tiles (docs/codecs.md)")
    parser.add_argument("--shard-clips", type=int, default=256, help="clips per shard (default 256)")
    parser.add_argument("--workers", type=int, default=1, help="processes on this machine, or per launched rank")
    parser.add_argument("--threads", type=int, default=4, help="that decode ahead, per process (default 4)")
    parser.add_argument("--device", default="auto", help="cpu, cuda or cuda:N; auto: GPUs in turn if there are any")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    for name in ("shard_clips", "workers", "threads", "fps", "duration"):
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise UserError(f"--{name.replace('_', '-')} {value}: give more than 0")
    specs = args.track_encoders.split(",")
    if len(specs) not in (1, 3):
        raise UserError(f"--track-encoders {args.track_encoders}: one, or three as SPEECH,EFFECTS,MUSIC, are needed")
    args.track_encoders = dict(zip(Tracks().encoders, specs * (3 // len(specs)), strict=True))
    _fill_from_checkpoint(args)
    return args


def _fill_from_checkpoint(args: argparse.Namespace) -> None:
    """Frame rate and size where they are not given."""
    found = check_checkpoint(args.checkpoint) if args.checkpoint else {}
    args.fps = args.fps or found.get("fps")
    sizes = args.size or ([[found["height"], found["width"]]] if "height" in found else [])
    args.size = [(height, width) for height, width in sizes]
    for name in ("fps", "size"):
        if not getattr(args, name):
            raise UserError(f"--{name} is needed, or --checkpoint with one that says it")
    if min(min(size) for size in args.size) < 1:
        raise UserError(f"--size {' '.join(map(str, args.size[0]))}: give pixels above 0")


def _sources(args: argparse.Namespace) -> dict[str, ComponentSource]:
    """By component its class and folder. UserError if one is not given or not there."""
    found = {}
    for name in COMPONENTS:
        folder = getattr(args, name) or args.checkpoint
        if folder is None:
            option = "--" + name.replace("_", "-")
            raise UserError(f"{option} is needed, or --checkpoint with a folder that holds all components")
        found[name] = find_component(name, folder)
    return found


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    names = ("fps", "duration", "needs", "stills", "text_dtype", "low_memory", "shard_clips")
    tracks = args.track_encoders if args.tracks else None
    return {name: getattr(args, name) for name in names} | {"sizes": [*map(list, args.size)], "tracks": tracks}


def _prepare(out: Path, settings: dict[str, Any]) -> None:
    """Refuse a folder that holds anything else, or shards of other settings."""
    marker = out / SETTINGS_NAME
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; give a folder")
    try:
        if marker.is_file():
            found = json.loads(marker.read_text(encoding="utf-8"))
            changed = [f"{name} {found.get(name)}" for name in settings if found.get(name) != settings[name]]
            if changed:
                raise UserError(f"{out}: holds shards of other settings ({', '.join(changed)}); give a new folder")
            return
        if out.is_dir() and any(path.name != marker.name for path in out.iterdir() if not path.name.startswith(".")):
            raise UserError(f"{out}: holds other files; give a new or empty folder")
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(marker, json.dumps(settings))
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{out}: cannot be used ({error}); give a folder that can be written") from error


if __name__ == "__main__":
    run_main(main)
