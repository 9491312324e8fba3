"""Encode clips into latent shards that training reads (docs/data.md).

    python scripts/encode.py --manifest data/clips --checkpoint outputs/mine/checkpoint --output data/latents
    torchrun --nproc-per-node 8 scripts/encode.py --manifest data/clips --video-codec models/wan \\
        --audio-codec models/ltx --text-encoder models/wan --fps 16 --size 352 640 --output data/latents

DIR/00000.tar ... with video and audio latents, embeddings of both captions and, with --tracks, features of the tracks;
DIR/report.jsonl, a line per clip; DIR/index.json, last. Run again to go on where it stopped: finished shards are kept.
Clips that fail are listed at the end, the shards hold the others, and the exit code is 1.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator

from shared.checkpoint.folder import check_checkpoint
from shared.checkpoint.registry import COMPONENTS, ComponentSource, find_component
from shared.data.manifest import read_manifest
from shared.utils.cli import TrustOptions, option, parse
from shared.utils.config_sections import TrackSettings
from shared.utils.errors import UserError, exit_for_failed_clips, run_main
from shared.utils.object_store import object_path
from shared.utils.ranges import Count, Fps, Rank, Seconds, Side, Workers


class EncodeOptions(TrustOptions):
    manifest: str = option(help="manifest.jsonl, here or in an object store (s3://), or a folder of X.mp4 with X.txt")
    output: Path = option(help="folder to fill; new, empty, or made by this script", writes="folder")
    upload: str | None = option(None, "URL in an object store (s3://, gs://) where each finished shard is put too")
    checkpoint: Path | None = option(None, "checkpoint folder whose codecs and text encoder are used")
    video_codec: str | None = option(None, "its folder or hub id, instead of the checkpoint's")
    audio_codec: str | None = option(None, "its folder or hub id, instead of the checkpoint's")
    text_encoder: str | None = option(None, "its folder or hub id, instead of the checkpoint's")
    fps: Fps | None = option(None, "pictures per second (default: the checkpoint's)")
    keep_fps: bool = option(
        False, "each clip keeps its own frame rate, to the next whole number; --fps is for those without pictures"
    )
    size: list[tuple[Side, Side]] = option(
        [], "pixels (default: the checkpoint's); given several times, each clip takes the nearest shape",
        repeat=True, metavar=("HEIGHT", "WIDTH"),
    )  # fmt: skip
    duration: Seconds | None = option(None, "seconds from each clip's start (default: all of it)")
    needs: Literal["both", "video", "audio"] = option("both", "refuse clips without it")
    keyframe_latents: bool = option(False, "every latent as a keyframe too, for keyframes > 0")
    part_latents: bool = option(False, "latents of speech and effects too, for task part")
    tracks: bool = option(False, "features of the clips' tracks too, for task mtv")
    track_encoders: str = option("log-mel", "log-mel, wav2vec2:PATH_OR_ID or ast:PATH_OR_ID; or SPEECH,EFFECTS,MUSIC")
    text_dtype: Literal["fp32", "bf16"] = option("fp32", "in which UMT5 runs")
    latents_dtype: Literal["float16", "float32"] = option("float16", "in which latents and features are kept")
    low_memory: bool = option(False, "the video codec works in tiles (docs/codecs.md)")
    shard_clips: Count = option(256, "clips per shard")
    workers: Workers = option(1, "processes on this machine, or per launched rank")
    threads: Workers = option(4, "that decode ahead, per process")
    device: str = option("auto", "cpu, cuda or cuda:N; auto: GPUs in turn if there are any")
    local_rank: Rank = option(0, hidden=True)

    @field_validator("track_encoders")
    @classmethod
    def _one_or_three(cls, specs: str) -> str:
        if len(specs.split(",")) not in (1, 3):
            raise ValueError(f"{specs}: one, or three as SPEECH,EFFECTS,MUSIC, are needed")
        return specs


def main(argv: list[str] | None = None) -> None:
    """Parse, check, encode, report; exit code 1 if a clip failed."""
    options = parse(EncodeOptions, __doc__, argv)
    settings, sources, clips = record_settings(options), component_sources(options), read_manifest(options.manifest)
    from mtv.captions import drop_speaker
    from mtv.track_features import check_tracks
    from mtv.tracks import clip_features, clip_parts
    from shared.data.encode import EncodeJob, encode

    if options.tracks:
        check_tracks(clips)
    how = options.model_dump(include={"output", "device", "workers", "threads"}) | {"without_speaker": drop_speaker}
    how |= {"features": clip_features, "parts": clip_parts}
    how |= {"upload": object_path("--upload", options.upload)}
    job = EncodeJob(clips=clips, sources=sources, settings=settings, **how)
    failed = encode(job)
    if failed is None:
        print(f"{options.output}: this process is done; the last one writes index.json")
        return
    if len(failed) < len(clips):
        print(f"{len(clips) - len(failed)} clips, {options.output / 'index.json'}")
    exit_for_failed_clips([(failure["id"], failure["reason"]) for failure in failed], len(clips), "shards are")


def component_sources(options: EncodeOptions) -> dict[str, ComponentSource]:
    """Find the class and folder of each component. UserError if one is not given or not there."""
    folders = {name: getattr(options, name) or options.checkpoint or "" for name in COMPONENTS}
    if missing := [name for name, folder in folders.items() if folder == ""]:
        flag = "--" + missing[0].replace("_", "-")
        raise UserError(f"{flag} is needed, or --checkpoint with a folder that holds all components")
    return {name: find_component(name, folder, options.trust_package) for name, folder in folders.items()}


def record_settings(options: EncodeOptions) -> dict[str, Any]:
    """Collect what decides the records (`EncodeJob.settings`); frame rate and size default to the checkpoint's."""
    index = check_checkpoint(options.checkpoint, options.trust_package) if options.checkpoint else {}
    fps = options.fps or index.get("fps")
    sizes = options.size or ([(index["height"], index["width"])] if "height" in index else [])
    for name, value in (("fps", fps), ("size", sizes)):
        if not value:
            raise UserError(f"--{name} is needed, or --checkpoint with one that says it")
    specs = options.track_encoders.split(",")
    encoders = dict(zip(TrackSettings().encoders, specs * (3 // len(specs)), strict=True))
    names = {"duration", "needs", "text_dtype", "latents_dtype", "low_memory", "shard_clips"}
    settings = options.model_dump(include=names) | {"fps": fps, "sizes": [list(size) for size in sizes]}
    settings |= {"keep_fps": True} if options.keep_fps else {}  # else as in folders from before there was a choice
    settings |= {"part_latents": True} if options.part_latents else {}  # older folders do not name it
    return settings | {"keyframe_latents": options.keyframe_latents, "tracks": encoders if options.tracks else None}


if __name__ == "__main__":
    run_main(main)
