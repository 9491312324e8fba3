"""Make a video that speech, effects and music drive, with one checkpoint; the file carries the given sound.

Tracks, in any combination; what is not given is silent:
    python scripts/sample_mtv.py --prompt "One person conversation. ..." --speech voice.wav --effects steps.wav \\
        --music piano.wav --output out.mp4
More people speak in the prompt's order, Person1 from --speech, Person2 from --speech2 ... A mix is taken apart first:
    python scripts/sample_mtv.py --prompt "A bell rings." --audio film.wav --demixer dsp --output out.mp4

The video lasts as long as the sound. More than --window seconds are made window by window. Pictures at given times:
    ... --image first.png --keyframe 2.5=second.png --keyframe 6=third.png
A prompt that changes over time has lines of SECONDS, TEXT; the first begins at 0:
    ... --timed-prompts story.txt
Adapters (docs/lora.md), and less GPU memory (docs/memory.md):
    ... --lora style=0.8 --lora dogs --memory low
To edit a video, sample again with the same --seed and one track or the text replaced.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

# Only what imports at once: what is wrong with the arguments is said before torch and diffusers are loaded.
from shared.checkpoint.folder import check_checkpoint
from shared.checkpoint.loading import FUSE_LORA, LORA, MEMORY, check_model_arguments, load_model
from shared.data.media import probe, read_audio, read_image, write_video
from shared.data.media_write import AAC_RATES, Audio
from shared.utils.cli_old import Parser, device, timed_prompts
from shared.utils.errors import UserError, run_main

if TYPE_CHECKING:
    from mtv.guidance import TrackGuidance
    from mtv.pipeline import MTVPipeline
    from mtv.separation import Stems
    from mtv.tracks import Tracks
    from shared.encoders.timed_prompts import TimedPrompts

ASSETS = Path(__file__).resolve().parents[1] / "assets" / "puppets"
PEOPLE = 9  # as many as a prompt's template counts; the checkpoint may know fewer
SPEECH = ("speech", *(f"speech{k}" for k in range(2, PEOPLE + 1)))
DEMIXERS = ("dsp", "demucs-cdx23")
SCALES = {"text": 2, "speech": 1.5, "effects": 1, "music": 1}
"""Of guidance, and what `TrackGuidance` has where none is given."""
SHORT = 0.1  # s by which the sound may be shorter than --duration: codecs round


def main(argv: Sequence[str] | None = None) -> None:
    """Check everything that can be checked without the model, then sample and write the file."""
    options = parse(argv)
    check_output(options)
    fps = check_model(options.checkpoint)
    for picture in pictures(options).values():
        read_image(picture)
    sound = Sound.read(options, fps)
    for time in pictures(options):
        if time >= sound.duration:
            raise UserError(f"--keyframe {time:g}: the video ends at {sound.duration:g} s; an earlier time is needed")
    prompt: str | TimedPrompts = options.prompt
    if options.timed_prompts is not None:
        prompt = timed_prompts(options.timed_prompts, sound.duration)
    stems = separated(options, sound) if options.audio is not None else None
    sample(options, prompt, sound, stems, fps)
    print(options.output)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--checkpoint", type=Path, default=ASSETS, metavar="DIR", help="default: the shipped assets/puppets")
    add("--output", type=Path, required=True, help="OUT.mp4")
    text = parser.add_mutually_exclusive_group(required=True)
    text.add_argument("--prompt", metavar="TEXT", help="what to see; docs/mtv.md has the form the model was taught")
    text.add_argument("--timed-prompts", type=Path, metavar="FILE", help="lines of SECONDS, TEXT")
    add("--negative-prompt", metavar="TEXT", help="what guidance leads away from; default: the empty text")
    add("--speech", type=Path, metavar="WAV", help="what the first person says; --speech2 ... for the others")
    for name in SPEECH[1:]:
        add(f"--{name}", type=Path, help=argparse.SUPPRESS)
    add("--effects", type=Path, metavar="WAV", help="what happens")
    add("--music", type=Path, metavar="WAV", help="the mood")
    add("--audio", type=Path, metavar="MIX", help="all in one: a wav, or any file with sound, to be taken apart")
    add("--demixer", help=f"how --audio is taken apart: {' or '.join(DEMIXERS)}; default: dsp")
    add("--demixer-checkpoint", type=Path, nargs="+", metavar="TH", help="the .th files of demucs-cdx23")
    add("--duration", type=float, metavar="S", help="seconds; default: as long as the sound, which may be longer")
    add("--image", type=Path, help="png, jpeg or webp: the first frame")
    add("--keyframe", action="append", default=[], metavar="SECONDS=IMAGE", help="a picture at a time; any number")
    add("--window", type=float, metavar="S", help="seconds made at a time; default: 2")
    add("--seed", type=int, default=0, help="default: 0; the same seed makes the same video")
    add("--steps", type=int, help="solver steps per window; default: the pipeline's")
    for name, usual in SCALES.items():
        add(f"--{name}-scale", type=float, metavar="W", help=f"how much it counts; 1: as trained; default: {usual}")
    add("--device", default="auto", help="auto (default: a GPU if there is one), cpu, cuda, cuda:1 ...")
    add("--lora", **LORA)
    add("--fuse-lora", **FUSE_LORA)
    add("--memory", **MEMORY)
    add("--dtype", choices=["float32", "bfloat16"], default="float32", help="default: float32")
    add("--attention", default="native", help="backend: native (default), flash, xformers ...")
    return checked(parser.parse_args(argv))


def checked(options: argparse.Namespace) -> argparse.Namespace:
    """`options`. Raises UserError at a value or a combination that no checkpoint can serve."""
    for name in ("duration", "window"):
        if (seconds := getattr(options, name)) is not None and not 0 < seconds < math.inf:
            raise UserError(f"--{name} {seconds:g}: a positive number of seconds is needed")
    for name in SCALES:
        if (scale := getattr(options, f"{name}_scale")) is not None and not math.isfinite(scale):
            raise UserError(f"--{name}-scale {scale}: a finite number is needed")
    if options.steps is not None and options.steps < 1:
        raise UserError(f"--steps {options.steps}: at least 1 is needed")
    if options.prompt is not None and not options.prompt.strip():
        raise UserError("--prompt is empty; a text is needed")
    given = [f"--{name}" for name in (*SPEECH, "effects", "music") if getattr(options, name) is not None]
    if options.audio is None and not given:
        raise UserError("no sound is given; --speech, --effects or --music are needed, or a mix as --audio")
    if options.audio is not None and given:
        raise UserError(f"--audio and {' '.join(given)}: a mix or its tracks are needed, not both")
    if options.audio is None and (options.demixer or options.demixer_checkpoint):
        raise UserError("--demixer and --demixer-checkpoint take a mix apart; give it as --audio, or leave them out")
    options.demixer = options.demixer or "dsp"
    if options.demixer not in DEMIXERS:
        raise UserError(f"--demixer {options.demixer}: give one of {', '.join(DEMIXERS)}")
    if (options.demixer == "dsp") == bool(options.demixer_checkpoint):
        needed = "has no checkpoint; leave it out" if options.demixer == "dsp" else "needs --demixer-checkpoint"
        raise UserError(f"--demixer {options.demixer}: {needed}")
    pictures(options)
    check_model_arguments(options)
    return options


def pictures(options: argparse.Namespace) -> dict[float, Path]:
    """The keyframes' files by second. Raises UserError for one that is not SECONDS=IMAGE, or a time given twice."""
    found: dict[float, Path] = {} if options.image is None else {0.0: options.image}
    for text in options.keyframe:
        seconds, _, file = text.partition("=")
        try:
            time = float(seconds)
        except ValueError:
            time = math.nan
        if not 0 <= time < math.inf or not file:
            raise UserError(f"--keyframe {text}: SECONDS=IMAGE is needed, as 2.5=face.png")
        if time in found:
            raise UserError(f"--keyframe {text}: there is a picture at {time:g} s already; give one for each time")
        found[time] = Path(file)
    return found


def check_output(options: argparse.Namespace) -> None:
    """Raises UserError if the file cannot be written, or is one that was given."""
    out: Path = options.output
    if out.suffix.lower() != ".mp4":
        raise UserError(f"--output {out}: an .mp4 is written; give a name that ends so")
    folder = existing_folder(out)
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"--output {out}: {folder} is no folder that can be written to")
    inputs = [*track_files(options), *pictures(options).values(), options.audio, options.timed_prompts]
    if out.is_dir() or out.resolve() in [path.resolve() for path in inputs if path is not None]:
        raise UserError(f"--output {out}: is a folder or a given file; give another name")


def existing_folder(out: Path) -> Path:
    return next(parent for parent in out.absolute().parents if parent.exists())


def track_files(options: argparse.Namespace) -> list[Path]:
    """The given tracks: speech by person, effects, music."""
    found = [getattr(options, name) for name in (*SPEECH, "effects", "music")]
    return [path for path in found if path is not None]


def check_model(folder: Path) -> float:
    """The checkpoint's frame rate. Raises UserError if it is none, or cannot make a video from tracks."""
    if (folder / "vae").is_dir() and not (folder / "control").is_dir():
        raise UserError(
            f"checkpoint {folder}: a pipeline of diffusers without audio control; train a CogVideoX first, with "
            "scripts/train_mtv.py --config configs/train/mtv_cogvideox.yaml and this folder as backbone"
        )
    index = check_checkpoint(folder)
    for name in ("control", "audio_encoder"):
        if index.get(name, [None, None]) == [None, None]:
            raise UserError(
                f"checkpoint {folder}: no {name}, this is a joint model only; give one that scripts/train_mtv.py wrote"
            )
    return float(index.get("fps", 16.0))


@dataclass(frozen=True)
class Sound:
    """The sound that the file carries, [1 or 2, N] float32 at `rate` Hz, and how long the video lasts in seconds."""

    samples: Audio
    rate: int
    duration: float

    @classmethod
    def read(cls, options: argparse.Namespace, fps: float) -> Sound:
        """The mix as it is, or the sum of the tracks at the highest of their rates; stereo if one of them is.

        What exceeds full scale is turned down as a whole. Raises UserError for a file that is broken or too short.
        """
        files = track_files(options) if options.audio is None else [options.audio]
        infos = [probe(file) for file in files]
        for info in infos:
            if info.rate is None:
                raise UserError(f"{info.path}: has no sound; a file with sound is needed")
        rate = max(info.rate or 0 for info in infos)
        rate = rate if rate in AAC_RATES else 48000
        parts = [read_audio(info.path, rate, (info.channels or 1) > 2, end=options.duration) for info in infos]
        count = max(part.shape[1] for part in parts)
        check_lengths(files, [part.shape[1] / rate for part in parts], options.duration, fps)
        samples = np.zeros((max(len(part) for part in parts), count), np.float32)
        for part in parts:
            samples[:, : part.shape[1]] += part
        samples /= max(1.0, float(np.abs(samples).max()))
        return cls(samples, rate, count / rate if options.duration is None else options.duration)


def check_lengths(files: list[Path], seconds: list[float], wanted: float | None, fps: float) -> None:
    """Raises UserError if the tracks differ by more than a frame, or last less than what is wanted."""
    longest = max(seconds)  # rounded at their rates, so by less than a millisecond
    for file, lasts in zip(files, seconds, strict=True):
        if longest - lasts > 1 / fps + 1e-3:
            other = files[seconds.index(longest)]
            raise UserError(
                f"{file} lasts {lasts:.3f} s, {other} {longest:.3f} s; "
                f"tracks of one video must be equally long, to a frame of {1 / fps:.3f} s"
            )
    if wanted is not None and wanted > longest + SHORT:
        raise UserError(f"{files[0]}: the sound lasts {longest:.2f} s; --duration {wanted:g} is longer, lower it")


def separated(options: argparse.Namespace, sound: Sound) -> Stems:
    """The mix taken apart, at its own rate."""
    from mtv.separation import demixer

    more: dict[str, Any] = {}
    if options.demixer != "dsp":
        more = {"checkpoints": options.demixer_checkpoint, "device": str(device(options.device)), "tell": warn}
    return demixer(options.demixer, **more).separate(sound.samples, sound.rate)


def sample(
    options: argparse.Namespace, prompt: str | TimedPrompts, sound: Sound, stems: Stems | None, fps: float
) -> None:
    """Load the checkpoint, sample window by window, and write the file."""
    import torch

    from mtv.pipeline import MTVPipeline
    from shared.nn.attention import use_backend

    dtype, place = getattr(torch, options.dtype), device(options.device)
    with use_backend(options.attention):
        pipeline = load_model(MTVPipeline, options, dtype, place)
        rate = pipeline.audio_encoder.sample_rate
        tracks = read_given(options, fps, rate) if stems is None else resampled(stems, rate)
        pipeline.set_progress_bar_config(desc=options.output.name, unit="step")
        parts = pipeline.stream(prompt, tracks, **arguments(options, pipeline))
        write(options.output, parts, pipeline.config.fps, sound)


def read_given(options: argparse.Namespace, fps: float, rate: int) -> Tracks:
    """The tracks for the model. A person without a file before one who has one is there and silent."""
    from mtv.tracks import Tracks, read_tracks

    voices: list[Path | None] = [getattr(options, name) for name in SPEECH]
    while voices and voices[-1] is None:
        voices.pop()
    speech = [voice for voice in voices if voice is not None]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tracks = read_tracks(speech, options.effects, options.music, fps=fps, rate=rate, end=options.duration)
    for warning in caught:
        if warning.category is UserWarning:  # what read_tracks says; libraries have classes of their own
            warn(f"warning: {warning.message}")
    if not speech:
        return tracks
    found = iter(tracks.speech)
    everyone = [next(found) if voice is not None else tracks.speech[0].new_zeros(1, tracks.samples) for voice in voices]
    return Tracks(everyone, tracks.effects, tracks.music, rate)


def resampled(stems: Stems, rate: int) -> Tracks:
    """The demixed tracks for the model: mono, at its rate."""
    import torch
    from torchaudio.functional import resample

    from mtv.tracks import Tracks

    mono = {name: torch.from_numpy(track).mean(0, keepdim=True) for name, track in stems.items()}
    found = {name: resample(track, stems.rate, rate).clamp(-1, 1) for name, track in mono.items()}
    return Tracks([found["speech"]], found["effects"], found["music"], rate)


def arguments(options: argparse.Namespace, pipeline: MTVPipeline) -> dict[str, Any]:
    """What the pipeline is given besides prompt and tracks."""
    import torch

    from mtv.windows import window_frames
    from shared.codecs import frames_to_tensor

    size, stride = (pipeline.config.height, pipeline.config.width), pipeline.video_codec.temporal_stride
    given: dict[str, Any] = {"seed": options.seed, "duration": options.duration, "guidance": guidance(options)}
    given["overlap"] = 1 + stride  # two latents
    given["keyframes"] = {
        time: frames_to_tensor(torch.from_numpy(read_image(file, size))[None])[:, 0]
        for time, file in pictures(options).items()
    }
    if options.window is not None:
        given["window"] = window_frames(options.window, pipeline.config.fps, stride)
    if options.negative_prompt is not None:
        given["negative_prompt"] = options.negative_prompt
    if options.steps is not None:
        given["num_inference_steps"] = options.steps
    return given


def guidance(options: argparse.Namespace) -> TrackGuidance:
    from mtv.guidance import TrackGuidance

    scales = {name: getattr(options, f"{name}_scale") for name in SCALES}
    return TrackGuidance(**{name: scale for name, scale in scales.items() if scale is not None})


def write(out: Path, parts: Iterator[np.ndarray], fps: float, sound: Sound) -> None:
    """The windows' frames with the given sound. They wait on the disk, in a file without a name, not in memory."""
    with tempfile.TemporaryFile(dir=existing_folder(out)) as file:
        count = 0
        for part in parts:
            file.write(np.ascontiguousarray(part[0]).data)
            count, size = count + part.shape[1], part.shape[2:]
        file.flush()
        write_video(out, np.memmap(file, np.uint8, "r", shape=(count, *size)), fps, sound.samples, sound.rate)


def warn(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    run_main(main)
