"""A video from tracks or a mix, as mp4; wrong options are told before torch and diffusers are imported."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import model_validator

from mtv.kept_windows import KeptWindows
from mtv.sound import Sound
from shared.checkpoint.folder import check_checkpoint, check_driven
from shared.checkpoint.loading import SamplingOptions, check_output, load_model
from shared.data.media import read_audio, read_image
from shared.encoders.timed_prompts import TimedPrompts
from shared.utils import cli
from shared.utils.cli import exclusive, option
from shared.utils.digest import settings_digest
from shared.utils.errors import EveryRanksError, UserError
from shared.utils.launch import tell
from shared.utils.ranges import Count, Scale, Seconds, Speakers, Steps, WindowSeconds
from shared.utils.startup import quick_imports

if TYPE_CHECKING:
    from mtv.guidance import TrackGuidance
    from mtv.pipeline import MTVPipeline
    from mtv.separation import Stems
    from mtv.tracks import Tracks
    from shared.perception.turns import Turns

PEOPLE = 9  # as many as a prompt's template counts; the checkpoint may know fewer
SPEECH = ("speech", *(f"speech{k}" for k in range(2, PEOPLE + 1)))
DEMIXERS = ("dsp", "spleeter", "demucs-cdx23")
EMBEDDER = "resemblyzer"
SCALES = {"text": 2, "speech": 1.5, "effects": 1, "music": 1}  # of guidance; `TrackGuidance`'s own are the same
JOINT_SCALE = 3.5


def _scale(name: str) -> Any:
    return option(None, f"how much it counts; 1: as trained; default: {SCALES[name]}", metavar="W")


class MTVOptions(SamplingOptions):
    """Options of scripts/sample_mtv.py."""

    output: Path = option(help="OUT.mp4, or OUT.mkv with --lossless", writes="file")
    prompt: str | None = option(None, "what to see; docs/mtv.md has the form the model was taught", metavar="TEXT")
    speech: Path | None = option(
        None, "what the first person says: a wav, mp3, m4a, flac, ogg, or any file with sound; --speech2 ... for the "
        "others", metavar="SOUND",
    )  # fmt: skip
    speech2: Path | None = option(None, hidden=True)
    speech3: Path | None = option(None, hidden=True)
    speech4: Path | None = option(None, hidden=True)
    speech5: Path | None = option(None, hidden=True)
    speech6: Path | None = option(None, hidden=True)
    speech7: Path | None = option(None, hidden=True)
    speech8: Path | None = option(None, hidden=True)
    speech9: Path | None = option(None, hidden=True)
    effects: Path | None = option(None, "what happens", metavar="SOUND")
    music: Path | None = option(None, "the mood", metavar="SOUND")
    audio: Path | None = option(None, "all in one: a wav, or any file with sound, to be taken apart", metavar="MIX")
    audio_track: Count | None = option(None, "which track of --audio, from 1; default: the file's own default")
    demixer: str | None = option(None, f"how --audio is taken apart: {' or '.join(DEMIXERS)}; default: dsp")
    demixer_checkpoint: list[Path] = option([], "the .th files of demucs-cdx23", metavar="TH")
    speakers: Speakers | None = option(
        None, "how many people speak in --speech, or in --audio; each gets a track, in the order of their first words",
        metavar="K",
    )  # fmt: skip
    embedder: str | None = option(
        None, "how their voices are told apart: resemblyzer, pitch (one high, one low), a folder of x-vectors, or "
        "one of a pipeline of pyannote.audio; default: resemblyzer", metavar="NAME",
    )  # fmt: skip
    duration: Seconds | None = option(None, "seconds; default: the sound's, which may be longer", metavar="S")
    keyframe: list[str] = option([], "a picture at a time; any number", metavar="SECONDS=IMAGE", repeat=True)
    steps: Steps | None = option(None, "solver steps per window; default: the pipeline's")
    window: WindowSeconds | None = option(None, "seconds made at a time; default: 2", metavar="S")
    resume: bool = option(False, "go on from the finished windows of a sample that was stopped")
    lossless: bool = option(False, "FFV1 and FLAC in an mkv, which return the frames and the sound to the bit")
    preview: bool = option(False, "after each window write what is finished as OUT.mp4.partial/so_far.mp4, and say so")
    guidance: Literal["separate", "joint"] | None = option(
        None, "separate: a scale for each condition; joint: one for text and tracks together; default: separate, of "
        "MTV's public weights joint",
    )  # fmt: skip
    guidance_scale: Scale | None = option(
        None, f"of joint guidance: how much all counts; 1: as trained; default: {JOINT_SCALE}", metavar="W"
    )
    text_scale: Scale | None = _scale("text")
    speech_scale: Scale | None = _scale("speech")
    effects_scale: Scale | None = _scale("effects")
    music_scale: Scale | None = _scale("music")

    @model_validator(mode="after")
    def _consistent(self) -> MTVOptions:
        exclusive(self, "prompt", "timed_prompts", required=True)
        names = (name for name in (*SPEECH, "effects", "music") if getattr(self, name) is not None)
        given = " ".join(f"--{name}" for name in names)
        if self.audio is None and not given:
            raise UserError("no sound is given; --speech, --effects or --music are needed, or a mix as --audio")
        if self.audio is not None and given:
            raise UserError(f"--audio and {given}: a mix or its tracks are needed, not both")
        if self.audio is None and self.audio_track is not None:
            raise UserError("--audio-track chooses a track of --audio; give both, or leave it out")
        if self.audio is None and (self.demixer or self.demixer_checkpoint):
            raise UserError("--demixer and --demixer-checkpoint take a mix apart: give --audio, or leave them out")
        name = self.demixer or "dsp"
        if name not in DEMIXERS:
            raise UserError(f"--demixer {name}: give one of {', '.join(DEMIXERS)}")
        if (name != "demucs-cdx23") == bool(self.demixer_checkpoint):
            needed = "needs --demixer-checkpoint" if name == "demucs-cdx23" else "has no checkpoint; leave it out"
            raise UserError(f"--demixer {name}: {needed}")
        _check_speakers(self)
        joint = self.guidance == "joint"
        idle = [f"{name}_scale" for name in (SCALES if joint else ["guidance"])]
        if given_scales := [name for name in idle if getattr(self, name) is not None]:
            option_name = f"--{given_scales[0].replace('_', '-')}"
            raise UserError(f"{option_name} has no effect with --guidance {self.guidance or 'separate'}; leave it out")
        if self.launch.groups > 1:
            many = f"{self.launch.size} processes for one video"
            raise EveryRanksError(f"{many}; give --context-parallel {self.launch.size}, or start one")
        _ = self.pictures
        return self

    @cached_property
    def pictures(self) -> dict[float, Path]:
        """The keyframes' files by second. UserError for one that is not SECONDS=IMAGE, or a time given twice."""
        files: dict[float, Path] = {} if self.image is None else {0.0: self.image}
        for text in self.keyframe:
            seconds, _, file = text.partition("=")
            try:
                time = float(seconds)
            except ValueError:
                time = math.nan
            if not 0 <= time < math.inf or not file:
                raise UserError(f"--keyframe {text}: SECONDS=IMAGE is needed, as 2.5=face.png")
            if time in files:
                raise UserError(f"--keyframe {text}: there is a picture at {time:g} s already; give one for each time")
            files[time] = Path(file)
        return files

    @property
    def voices(self) -> list[Path | None]:
        """The file of each person up to the last who has one; None: there and silent."""
        files = [getattr(self, name) for name in SPEECH]
        return files[: max((k + 1 for k, file in enumerate(files) if file is not None), default=0)]

    @property
    def track_files(self) -> list[Path]:
        """The given tracks: speech by person, effects, music."""
        return [file for file in (*self.voices, self.effects, self.music) if file is not None]

    @property
    def sounding_files(self) -> list[Path]:
        """What is to be heard: the mix, or the tracks."""
        return self.track_files if self.audio is None else [self.audio]


def _check_speakers(options: MTVOptions) -> None:
    """Raise UserError for --speakers and --embedder that have nothing to act on."""
    if options.speakers is None:
        if options.embedder is not None:
            raise UserError("--embedder tells the voices of --speakers apart; give both, or leave it out")
        return
    if options.speech is None and options.audio is None:
        raise UserError("--speakers tells the voices in --speech, or in a mix as --audio, apart; give one of them")
    if len(options.voices) > 1:
        raise UserError(f"--speakers and --speech{len(options.voices)}: one file of several people, or a file of each")


def generate(options: MTVOptions) -> Path:
    """Check everything that can be checked without the model (else UserError), then sample and write the file."""
    if options.output.suffix.lower() != (".mkv" if options.lossless else ".mp4"):
        what = "--lossless writes .mkv" if options.lossless else "an .mp4 is written"
        raise UserError(f"--output {options.output}: {what}; give a name that ends so")
    inputs = [*options.track_files, *options.pictures.values(), options.audio, options.timed_prompts]
    check_output(options.output, [options.output], inputs)
    folder = options.checkpoint
    if (folder / "vae").is_dir() and not (folder / "control").is_dir():
        how = "with scripts/train_mtv.py --config configs/train/mtv_cogvideox.yaml and this folder as backbone"
        what = "a pipeline of diffusers without audio control; train a CogVideoX first"
        raise UserError(f"checkpoint {folder}: {what}, {how}")
    index = check_checkpoint(folder, options.trust_package)
    check_driven(index, f"checkpoint {folder}: ")
    fps = options.fps or float(index.get("fps", 16.0))
    prompt, sound = read_given(options)
    weights = sorted(path for path in folder.rglob("*") if path.is_file())
    files = [*(path for path in inputs if path is not None), *options.demixer_checkpoint, *weights]
    files += [file for file, _ in options.adapters()]
    if options.embedder is not None:
        files += sorted(path for path in Path(options.embedder).rglob("*") if path.is_file())
    digest = settings_digest(
        options, files, ("output", "resume", "preview", "lossless", "device", "context_parallel", "local_rank")
    )
    writes: AbstractContextManager[KeptWindows | None] = nullcontext()
    if options.launch.writes:
        writes = KeptWindows.of(options.output, digest, options.resume)
    with writes as kept, options.launch.joined():
        _sample(options, prompt, sound, fps, kept)
    return options.output


def read_given(options: MTVOptions) -> tuple[str | TimedPrompts, Sound]:
    """Read texts, pictures and sound. UserError for what is broken, or lies beyond the end of the sound."""
    for picture in options.pictures.values():
        read_image(picture)
    sound = Sound.read(options.sounding_files, options.audio_track, options.duration)
    if options.lossless:
        sound.exact()
    for time in options.pictures:
        if time >= sound.duration:
            raise UserError(f"--keyframe {time:g}: the video ends at {sound.duration:g} s; an earlier time is needed")
    if options.timed_prompts is None:
        return options.prompt or "", sound
    return TimedPrompts.read(options.timed_prompts, sound.duration, options.fade or 0), sound


def _sample(
    options: MTVOptions, prompt: str | TimedPrompts, sound: Sound, fps: float, kept: KeptWindows | None
) -> None:
    """Load the checkpoint, sample window by window, and write the file; without `kept` another process writes it."""
    with quick_imports(options.compile):
        from mtv.pipeline import MTVPipeline
        from shared.nn.attention import use_backend
        from shared.nn.cache_context import cache_steps
        from shared.nn.compiling import compile_blocks

    stems = None if options.audio is None else separated(options, sound)
    turns = None if options.speakers is None else _turns(options, stems)
    with use_backend(options.attention, "--attention"):
        pipeline = load_model(MTVPipeline, options)
        if options.compile:
            compile_blocks(pipeline.transformer, "--compile")
        cache_steps(pipeline.transformer, options.step_cache)
        rate = pipeline.audio_encoder.sample_rate
        tracks = given_tracks(options, rate) if stems is None else resampled(stems, rate)
        if turns is not None:
            from mtv.speakers import by_speaker

            tracks = by_speaker(tracks, turns)
        pipeline.set_progress_bar_config(desc=options.output.name, unit="step", disable=kept is None)
        progress = options.launch.of_first(None if kept is None else kept.progress())
        assert progress is not None, "the first process keeps windows"
        parts = pipeline.stream(prompt, tracks, **call_arguments(options, pipeline, fps), progress=progress)
        if kept is None:
            for _ in parts:
                pass
            return
        write = partial(sound.write, fps=fps)
        with kept.so_far(write, options.preview):  # the windows' frames wait on the disk, not in memory
            for part in parts:
                kept.add(part[0], progress)
            write(options.output, kept.video(), lossless=options.lossless)
        kept.remove()


def separated(options: MTVOptions, sound: Sound) -> Stems:
    """Take the mix apart."""
    from mtv.separation import demixer

    settings: dict[str, Any] = {}
    if options.demixer in ("spleeter", "demucs-cdx23"):
        settings["device"] = str(cli.device(options.device))
    if options.demixer == "demucs-cdx23":
        settings |= {"checkpoints": options.demixer_checkpoint, "tell": tell}
    return demixer(options.demixer or "dsp", **settings).separate(sound.samples, sound.rate)


def _turns(options: MTVOptions, stems: Stems | None) -> Turns:
    """Find out who speaks when, before the model is loaded, and tell it. UserError for fewer voices than asked for."""
    from mtv.speakers import check_speakers, describe, find_turns
    from shared.perception.pitch import RATE

    assert options.speakers is not None
    if stems is None:
        assert options.speech is not None
        speech, rate, what = read_audio(options.speech, RATE, True, 0.0, options.duration), RATE, str(options.speech)
    else:
        speech, rate, what = stems.speech, stems.rate, f"{options.audio}, its speech"
    turns = find_turns(speech, rate, options.speakers, options.embedder or EMBEDDER)
    check_speakers(turns, options.speakers, what)
    for line in describe(turns):
        tell(f"{what}: {line}")
    return turns


def given_tracks(options: MTVOptions, rate: int, tell: Callable[[str], None] = tell) -> Tracks:
    """Read the tracks for the model; what the reader warns of is told, on stderr."""
    from mtv.tracks import read_tracks

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tracks = read_tracks(options.voices, options.effects, options.music, rate=rate, end=options.duration)
    for warning in caught:
        if warning.category is UserWarning:  # what read_tracks says; libraries have classes of their own
            tell(f"warning: {warning.message}")
    return tracks


def resampled(stems: Stems, rate: int) -> Tracks:
    """Demixed tracks for the model: mono, at its rate."""
    import torch
    from torchaudio.functional import resample

    from mtv.tracks import Tracks

    mono = (torch.from_numpy(track).mean(0, keepdim=True) for _, track in stems.items())
    speech, effects, music = (resample(track, stems.rate, rate).clamp(-1, 1) for track in mono)
    return Tracks([speech], effects, music, rate)


def call_arguments(options: MTVOptions, pipeline: MTVPipeline, fps: float) -> dict[str, Any]:
    """Arguments of `pipeline.stream` beside texts and tracks."""
    from shared.utils.windows import window_frames

    stride = pipeline.video_codec.temporal_stride
    arguments = options.given_arguments() | {"seed": options.seed, "duration": options.duration}
    arguments |= {"guidance": guidance(options), "keyframes": options.pictures}
    arguments["overlap"] = 1 + stride  # two latents are shared
    if options.window is not None:
        arguments["window"] = window_frames(options.window, fps, stride)
    return arguments


def guidance(options: MTVOptions) -> TrackGuidance | None:
    """Form and scales that are asked for; None: the model's own."""
    from mtv.guidance import TrackGuidance

    scales = {name: getattr(options, f"{name}_scale") for name in SCALES} | {"scale": options.guidance_scale}
    given = {name: scale for name, scale in scales.items() if scale is not None}
    if options.guidance is None and not given:
        return None
    return TrackGuidance(form=options.guidance or "separate", **given)
