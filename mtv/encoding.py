"""What `scripts/encode.py` is told, and the job that follows from it: clips into shards, with their tracks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError, field_validator

from shared.checkpoint.folder import check_checkpoint
from shared.checkpoint.registry import COMPONENTS, ComponentSource, find_component
from shared.utils import config_file
from shared.utils.cli import TrustOptions, option
from shared.utils.config_sections import TrackSettings
from shared.utils.errors import UserError
from shared.utils.object_store import object_path
from shared.utils.ranges import Count, Fps, Rank, Seconds, Side, Workers

if TYPE_CHECKING:
    from shared.data.encode import EncodeJob
    from shared.data.manifest import Clip


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

    @classmethod
    def of_section(cls, section: dict[str, Any], place: str, manifest: Path, output: Path) -> EncodeOptions:
        """Take the options by name from a section of a configuration. UserError, which begins with `place`, for one
        that is wrong, and where a component is not given or not there."""
        if given := [name for name in ("manifest", "output") if name in section]:
            raise UserError(f"{place}: {given[0]} has no place here; shards of {manifest} are written to {output}")
        try:
            options = cls.model_validate(section | {"manifest": str(manifest), "output": output})
        except ValidationError as error:
            raise UserError(config_file.explain(error, Path(place), cls)) from None
        record_settings(options), component_sources(options)
        return options


def encode_job(options: EncodeOptions, clips: list[Clip]) -> EncodeJob:
    """Put together what is to be encoded, and how. UserError where a component or a setting is missing, and for clips
    without tracks where tracks are wanted."""
    settings, sources = record_settings(options), component_sources(options)
    from mtv.captions import drop_speaker
    from mtv.track_features import check_tracks
    from mtv.tracks import clip_features, clip_parts
    from shared.data.encode import EncodeJob

    if options.tracks:
        check_tracks(clips)
    how = options.model_dump(include={"output", "device", "workers", "threads"})
    how |= {"without_speaker": drop_speaker, "features": clip_features, "parts": clip_parts}
    how |= {"upload": object_path("--upload", options.upload)}
    return EncodeJob(clips=clips, sources=sources, settings=settings, **how)


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
