"""What is wrong with a clip before it trains: facts, warnings, and the reasons for which training would refuse it."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import binary_closing, binary_opening

from shared.checkpoint.folder import check_checkpoint
from shared.checkpoint.registry import ComponentSource, find_component, load_component
from shared.data.channels import unnamed_channels
from shared.data.containers import open_media
from shared.data.dataset import SHORT_SOUND, ClipDataset, check_clip, check_headers
from shared.data.manifest import Clip, Problem, subset
from shared.data.media import Audio, probe, read_audio, read_mono, read_video
from shared.utils.config_sections import Data
from shared.utils.errors import UserError
from shared.utils.levels import CANCELLED, SILENCE_DBFS, rms_dbfs, why_silent
from shared.utils.parallel import spread

FPS, SIZE, RATE = (Data.model_fields[name].default for name in ("fps", "size", "sample_rate"))
HELD_OUT = "conflict"  # what data.exclude_subsets leaves out
OFFSET = 0.1  # s between the starts of picture and sound; it is honoured, but often a sign of a bad cut
VARIABLE = 0.25  # share by which a picture's time on show may differ from the usual
CLIPPED, CLIPPED_RUN, CLIPPED_SHARE = 0.999, 3, 1e-3  # level, samples in a row, share of all samples
LEAST_RATE = 16_000  # Hz; speech below it lacks its consonants
MANY_WORDS = 350  # about UMT5's 512 tokens
QUIET_DBFS = SILENCE_DBFS + 6


@dataclass
class Finding:
    """All about one clip. `refused` and `warnings` are sentences."""

    id: str
    facts: dict[str, Any] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        return "refuse" if self.refused else "warn" if self.warnings else "ok"

    @property
    def reasons(self) -> list[str]:
        """All that is wrong, the worst first."""
        return [*self.refused, *self.warnings]

    def as_dict(self) -> dict[str, Any]:
        """For JSON; no number in it is infinite."""
        facts = {n: None if isinstance(v, float) and not math.isfinite(v) else v for n, v in self.facts.items()}
        return {"verdict": self.verdict} | asdict(self) | {"facts": facts}


@dataclass
class LatentSanity:
    """Are a clip's latents finite, and their standard deviation within a factor `sigma` of 1?"""

    video_codec: Any
    audio_codec: Any
    fps: float
    size: tuple[int, int]
    sigma: float = 3.0

    def __call__(self, clip: Clip, finding: Finding) -> None:
        sample = ClipDataset([clip], self.fps, self.size, self.audio_codec.sample_rate)[0]
        encoded = {"video": (self.video_codec, sample.video), "audio": (self.audio_codec, sample.audio)}
        for name, (codec, values) in encoded.items():
            latents = codec.encode(values[None].to(getattr(codec, "device", "cpu"))).float()
            if not latents.isfinite().all():
                finding.refused.append(f"its {name} latents are not finite")
                continue
            mean, std = float(latents.mean()), float(latents.std(correction=0))
            finding.facts |= {f"{name}_latent_mean": round(mean, 3), f"{name}_latent_std": round(std, 3)}
            if not (1 / self.sigma <= std <= self.sigma and abs(mean) <= self.sigma):
                usual = f"a standard deviation from {1 / self.sigma:.2g} to {self.sigma:g} is usual"
                finding.warnings.append(f"its {name} latents have mean {mean:.2g} and deviation {std:.2g}; {usual}")


def examine_all(
    entries: Sequence[Clip | Problem], workers: int, checkpoint: Path | None = None, sigma: float = 3.0
) -> Iterator[Finding]:
    """Yield a finding for each entry, in order; with `checkpoint`, UserError without codecs, of their latents too."""
    sanity = None
    if checkpoint is not None:
        index = check_checkpoint(checkpoint)
        if not {"fps", "height", "width"} <= index.keys():
            raise UserError(f"--checkpoint {checkpoint}: says no fps, height and width; one of ours is needed")
        sources = (find_component(name, checkpoint) for name in ("video_codec", "audio_codec"))
        sanity = (*sources, index["fps"], (index["height"], index["width"]), sigma)
    return spread(partial(_examine_entry, sanity=sanity), entries, workers)


def _examine_entry(entry: Clip | Problem, sanity: tuple[Any, ...] | None) -> Finding:
    if isinstance(entry, Problem):
        return Finding(entry.id, refused=[entry.message])
    return examine(entry, None if sanity is None else _latent_sanity(*sanity))


@cache
def _latent_sanity(video_codec: ComponentSource, audio_codec: ComponentSource, *settings: Any) -> LatentSanity:
    """Load the codecs once in each process, on the CPU."""
    return LatentSanity(load_component(video_codec), load_component(audio_codec), *settings)


def examine(clip: Clip, sanity: Callable[[Clip, Finding], None] | None = None) -> Finding:
    """Everything about a clip; nothing that is wrong with it is raised."""
    finding = Finding(clip.id)
    for part in (_captions, _pictures, _sound, _tracks, _as_training, *([] if sanity is None else [sanity])):
        try:
            part(clip, finding)
        except UserError as error:
            reason = str(error).removeprefix(f"clip {clip.id!r}: ")
            if reason not in finding.refused:
                finding.refused.append(reason)
        except Exception as error:  # the other clips are looked at whatever happens with this one
            finding.refused.append(f"{type(error).__name__}: {error}")
    if HELD_OUT in clip.subsets:
        finding.warnings = [f"is in the subset {HELD_OUT}, which does not train", *finding.refused, *finding.warnings]
        finding.refused = []
    return finding


def refusal(entries: Sequence[Clip | Problem], findings: Sequence[Finding]) -> str:
    """Why training would refuse the manifest as a whole, in one line; "" if it would train."""
    if refused := [finding for finding in findings if finding.refused]:
        return f"{len(refused)} of {len(findings)} clips, {refused[0].id!r} first: {refused[0].refused[0]}"
    try:
        subset([entry for entry in entries if isinstance(entry, Clip)])
    except UserError as error:
        return str(error)
    return ""


def speech_share(sound: Audio, rate: int) -> float:
    """Share of the time [0, 1] in which somebody speaks, of mono sound [N] at 16 kHz; see `speech_measure`."""
    if (model := _silero()) is None:
        return voiced_share(sound, rate)
    import torch
    from silero_vad import get_speech_timestamps

    spans = get_speech_timestamps(torch.from_numpy(np.ascontiguousarray(sound)), model, sampling_rate=rate)
    return float(sum(span["end"] - span["start"] for span in spans) / max(1, len(sound)))


def speech_measure() -> str:
    """Name of what `speech_share` goes by."""
    return "voicing" if _silero() is None else "silero-vad"


def voiced_share(sound: Audio, rate: int) -> float:
    """Share of the time with a voice: periodic at 70-400 Hz, audible between 2.3 and 3.8 kHz, gaps of 0.3 s bridged.

    Frames of 40 ms every 20 ms. Singing and instruments with a rich tone in that range count as well.
    """
    size, hop = round(0.04 * rate), round(0.02 * rate)
    if len(sound) < size:
        return 0.0
    frames = np.lib.stride_tricks.sliding_window_view(sound.astype(np.float64), size)[::hop]
    window = np.hanning(size)
    spectrum = np.abs(np.fft.rfft(frames * window, 2 * size)) ** 2
    of_window = np.fft.irfft(np.abs(np.fft.rfft(window, 2 * size)) ** 2)
    correlation = np.fft.irfft(spectrum) / (of_window / of_window[0] + 1e-3)
    periodicity = correlation[:, rate // 400 : rate // 70 + 1].max(1) / (correlation[:, 0] + 1e-12)
    level = 10 * np.log10(np.square(frames).mean(1) + 1e-12)
    frequency = np.fft.rfftfreq(2 * size, 1 / rate)
    band = spectrum[:, (frequency > 2300) & (frequency < 3800)].sum(1) / (spectrum.sum(1) + 1e-12)
    voiced = (periodicity > 0.5) & (level > SILENCE_DBFS) & (band > 1e-4)
    voiced = binary_closing(np.pad(voiced, 15), np.ones(15, bool))[15:-15]
    return float(binary_opening(voiced, np.ones(3, bool)).mean())


def clipping_share(sound: Audio) -> float:
    """Share of the samples of [channels, N] at full scale, in runs of at least three."""
    return float(binary_opening(np.abs(sound) >= CLIPPED, np.ones((1, CLIPPED_RUN), bool)).mean())


def _captions(clip: Clip, finding: Finding) -> None:
    for name in ("caption", "audio_caption"):
        what, words = name.replace("_", " "), len(getattr(clip, name).split())
        finding.facts[f"{name}_words"] = words
        if not words:
            finding.warnings.append(f"has no {what}; that stream trains without text")
        elif words > MANY_WORDS:
            finding.warnings.append(f"its {what} has {words} words; UMT5 reads 512 tokens, the rest is cut off")
    if clip.prompts:
        finding.facts["prompts"] = len(clip.prompts)


def _pictures(clip: Clip, finding: Finding) -> None:
    if clip.video is None:
        raise UserError("has no video; only tasks without pictures can use it")
    info = probe(clip.video)
    if not info.has_video:
        raise UserError(f"{clip.video}: has no video stream; a file with pictures is needed")
    finding.facts |= {"width": info.width, "height": info.height, "fps": round(info.fps or 0, 3)}
    if info.colours:
        finding.facts["colours"] = info.colours
        finding.warnings.append(f"is {info.colours}; it is read tone-mapped to BT.709")
    end = min(t for t in (clip.end, info.video_end) if t is not None)
    finding.facts["seconds"] = round(end - clip.start, 3)
    if clip.end is not None and info.video_end is not None and clip.end > info.video_end + 0.5 / (info.fps or 1):
        finding.refused.append(f"ends at {clip.end:g} s, but its pictures at {info.video_end:.2f} s")
    if clip.prompts and clip.prompts[-1][0] >= end - clip.start:
        late = f"{clip.prompts[-1][0]:g} s, its pictures end at {end - clip.start:.2f} s"
        finding.warnings.append(f"a text of its prompts begins at {late}; it is never shown")
    rate = 1.0 if clip.end is None else max(1.0, 1 / (clip.end - clip.start))
    read_video(clip.video, rate, (32, 32), clip.start, clip.end)  # decodes all of it: broken and cut files show
    with open_media(clip.video) as container:
        packets = container.demux(container.streams.video[0])
        times = [p.pts * float(p.time_base) for p in packets if p.pts is not None and not p.is_discard]
    steps = np.diff(np.sort(times))
    if len(steps):
        usual = float(np.median(steps))
        varies = float((np.abs(steps - usual) > VARIABLE * usual).mean())
        finding.facts |= {"fps_true": round(1 / usual, 3), "variable_fps": varies > 0}
        if varies:
            finding.warnings.append(f"its frame rate varies: {varies:.0%} of the pictures are not on show for 1/fps")


def _sound(clip: Clip, finding: Finding) -> None:
    assert clip.audio is not None  # Clip guarantees it
    info = probe(clip.audio, clip.audio_track)
    if info.rate is None:
        raise UserError("has no sound track; only tasks without sound can use it")
    assert info.layout is not None
    finding.facts |= {"sample_rate": info.rate, "channels": info.channels, "layout": info.layout}
    if len(info.tracks) > 1:
        finding.facts["audio_tracks"] = [str(track) for track in info.tracks]
        finding.facts["audio_track"] = info.track
        if clip.audio_track is None:
            told = f"{' and '.join(map(str, info.tracks))}; {info.track} is read, the key audio_track chooses"
            finding.warnings.append(f"has {len(info.tracks)} audio tracks, {told}")
    if said := unnamed_channels(info.layout):
        finding.warnings.append(said)
    if clip.audio == clip.video:
        offset = info.audio_start or 0.0
        finding.facts["audio_offset"] = round(offset, 4)
        if abs(offset) > OFFSET:
            when = "after" if offset > 0 else "before"
            finding.warnings.append(f"its sound begins {abs(offset):.2f} s {when} its pictures; look whether they fit")
    _levels(clip, info.rate, finding)
    if info.rate < LEAST_RATE:
        finding.warnings.append(f"its sound has {info.rate} Hz; below {LEAST_RATE} Hz it lacks its high part")


def _levels(clip: Clip, rate: int, finding: Finding) -> None:
    """Find how loud the sound is, at its own `rate`."""
    assert clip.audio is not None
    cut = clip.start, clip.end, clip.audio_track
    sound, (mono, loudest) = read_audio(clip.audio, rate, False, *cut), read_mono(clip.audio, rate, *cut)
    level, clipped = rms_dbfs(mono), clipping_share(sound)
    speech = speech_share(read_audio(clip.audio, LEAST_RATE, True, *cut)[0], LEAST_RATE)
    reason = why_silent(mono, loudest)
    finding.facts |= {"level_dbfs": round(level, 1), "silent": bool(reason)}
    finding.facts |= {"clipping_share": round(clipped, 5), "speech_share": round(speech, 3)}
    if (seconds := finding.facts.get("seconds", 0.0)) - mono.shape[1] / rate > SHORT_SOUND:
        finding.refused.append(f"its sound lasts {mono.shape[1] / rate:.2f} s, its pictures {seconds:.2f} s")
    if reason:
        finding.refused.append(reason)
    elif level < QUIET_DBFS:
        finding.warnings.append(f"its sound is very quiet ({level:.1f} dBFS RMS)")
    elif level < loudest - 2 * CANCELLED:
        told = f"{loudest:.1f} dBFS RMS in one, {level:.1f} in their sum"
        finding.warnings.append(f"its channels cancel each other in part: {told}")
    if clipped > CLIPPED_SHARE:
        finding.warnings.append(f"its sound is clipped: {clipped:.1%} of the samples are at full scale")


def _tracks(clip: Clip, finding: Finding) -> None:
    if not clip.tracks:
        return
    sounds = {name: read_audio(path, LEAST_RATE, True, clip.start, clip.end) for name, path in clip.tracks.items()}
    lengths = {name: sound.shape[1] / LEAST_RATE for name, sound in sounds.items()}
    finding.facts["tracks"] = {name: round(seconds, 3) for name, seconds in lengths.items()}
    lengths = {name: min(seconds, finding.facts.get("seconds", seconds)) for name, seconds in lengths.items()}
    short, long = min(lengths, key=lengths.__getitem__), max(lengths, key=lengths.__getitem__)
    if lengths[long] - lengths[short] > 1 / FPS + 1e-6:
        times = f"{short} lasts {lengths[short]:.3f} s, {long} {lengths[long]:.3f} s"
        finding.refused.append(f"its tracks are not equally long, to a frame: {times}")
    if (seconds := finding.facts.get("seconds", 0.0)) - lengths[long] > SHORT_SOUND:
        finding.warnings.append(f"its tracks last {lengths[long]:.2f} s, its pictures {seconds:.2f} s")


def _as_training(clip: Clip, finding: Finding) -> None:
    """Read the clip by the functions of training, at its defaults; what they refuse, and no part above, is refused."""
    if not finding.refused:
        check_headers(clip, needs_video=True, needs_audio=True)
        check_clip(ClipDataset([clip], FPS, SIZE, RATE)[0], needs_video=True, needs_audio=True)


@cache
def _silero() -> Any:
    """silero-vad's model if the package is installed, else None."""
    try:
        from silero_vad import load_silero_vad
    except ImportError:
        return None
    return load_silero_vad()
