"""Looking into a clip: its figure with what is seen and heard, how they fit, and where a model's attention goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ccl.app.options import plainly
from shared.data.manifest import Clip
from shared.evaluation.clip_media import FileMedia
from shared.evaluation.figures import ClipFigure
from shared.evaluation.metrics.base import Result
from shared.evaluation.metrics.lip_sync import LipSync
from shared.evaluation.metrics.mouths import SOURCES, Source
from shared.evaluation.metrics.onset_sync import OnsetSync
from shared.utils.errors import UserError
from shared.utils.files import replacing
from shared.utils.ranges import check_range

if TYPE_CHECKING:
    from ccl.app.shelf import Shelf

RATE = 16000  # Hz at which sound is read
LONGEST = 10.0  # s of a clip whose attention is drawn: it is computed all at once
PICTURES = 12
#: How mouths are found.
MOUTHS: dict[str, Source] = {"puppets": "puppets", "real faces (needs make perception)": "landmarks"}


@dataclass(frozen=True)
class Looked:
    """What was found: lines to read, and files of pictures."""

    lines: tuple[str, ...]
    pictures: tuple[Path, ...]


def look(file: Path, mouths: Source, folder: Path) -> Looked:
    """Draw a clip's figure with the curves of mouths and voices, and events seen and heard; and how alike the curves
    are at each lag. UserError for a file that cannot be read, or without what reads faces."""
    with plainly([file]):
        media = FileMedia(Clip(id=file.name, video=file, caption=""))
        figure = ClipFigure.of_file(file, PICTURES)
        both = media.has("video") and media.has("audio")
        metric = LipSync(mouths)
        metric.fingerprint()
        events = OnsetSync().clip(media) if both else Result(None, "no pictures or no sound")
        lips = metric.clip(media) if both else events
        if both:
            figure = replace(figure, curves=_curves(media, metric, events, lips), onsets=_onsets(events))
        pictures = [folder / "clip.png"]
        figure.save(pictures[0])
        if lips.value is not None:
            pictures.append(_lag_figure(lips, folder / "lags.png"))
    return Looked((_told("events", "F1", events), _told("lips", "correlation", lips)), tuple(pictures))


def _curves(
    media: FileMedia, metric: LipSync, events: Result, lips: Result
) -> Sequence[tuple[str, NDArray[np.float64], NDArray[np.float64]]]:
    """Read openness of mouths and loudness of voices, or without them how much the picture changes; from 0 to 1."""
    if lips.value is not None:
        mouths, loudness = SOURCES[metric.source](media), metric.loudness(media)
        seen = np.arange(len(mouths.opening)) / mouths.fps
        heard = np.linspace(0, len(media.audio(RATE)) / RATE, len(loudness))
        return [("video", seen, _scaled(mouths.opening)), ("audio", heard, _scaled(loudness))]
    motion = np.asarray(events.facts.get("motion", ()), np.float64)
    return [("video", np.arange(len(motion)) / media.fps, _scaled(motion))] if len(motion) else []


def _scaled(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = float(curve.min(initial=np.inf)), float(curve.max(initial=-np.inf))
    scaled: NDArray[np.float64] = (curve - low) / max(high - low, 1e-9)
    return scaled


def _onsets(events: Result) -> dict[str, Sequence[float]]:
    return {"video": events.facts.get("peaks_s", ()), "audio": events.facts.get("onsets_s", ())}


def _told(what: str, measure: str, result: Result) -> str:
    if result.value is None:
        return f"{what}: {result.refused}"
    lag = result.facts.get("lag_ms")
    late = "no lag found" if lag is None else f"sound late by {lag} ms"
    return f"{what}: {measure} {result.value:.2f}, {late}"


def _lag_figure(lips: Result, path: Path) -> Path:
    """Draw how alike mouths and voices are, against how late the voice is taken to be."""
    figure = Figure(figsize=(5.0, 2.4))
    axes = figure.subplots()
    lags, values = 1000 * np.asarray(lips.facts["lags_s"]), lips.facts["correlations"]
    axes.plot(lags, values, color="#1f77d0")
    axes.axvline(0, color="#999999", linewidth=1)
    if lips.facts["lag_ms"] is not None:
        axes.axvline(lips.facts["lag_ms"], color="#d9660b", linestyle="dashed")
    axes.set(xlabel="sound late by, ms", ylabel="mouths and voices:\ncorrelation", ylim=(-1, 1))
    figure.tight_layout()
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=110)
    return path


def attention(shelf: Shelf, options: Any, file: Path, text: str, level: str, folder: Path) -> Path:
    """Draw where a model's video tokens look while they denoise a clip at the noise level u: shares of attention over
    the frames, mean over blocks and heads. UserError for a clip that lacks a stream, or a model that cannot tell."""
    noise = noise_level(level)
    import torch

    from ccl.analysis.attention_maps import STREAMS, AttentionProbe, draw_maps
    from ccl.analysis.loss_probes import encode
    from ccl.analysis.probe import flow_of
    from shared.data.dataset import ClipDataset

    with plainly([file]):
        pipeline = shelf.joint(options)
        size, rate = (pipeline.config.height, pipeline.config.width), pipeline.audio_codec.sample_rate
        media = FileMedia(Clip(id=file.name, video=file, caption=""))
        clip = Clip(id="attention", video=file, caption=text, end=min(media.duration, LONGEST))
        batch = encode([ClipDataset([clip], pipeline.config.fps, size, rate)[0]], pipeline, 1)[0]
        probe = AttentionProbe(pipeline.transformer, flow_of(pipeline), [noise], 0)
        frames, height, width = batch.video.shape[2], *probe.grid(batch)
        counts = {"video": frames * height * width, "audio": batch.audio.shape[1]}
        unknown = {
            name: batch.video.new_zeros((1, counts[name]), dtype=torch.bool) for name in STREAMS
        }  # no truth is needed
        try:
            maps = probe.add(batch, {name: (mask, mask) for name, mask in unknown.items()})[0]
        except TypeError as error:  # of a fusion that `weights_of` does not know
            raise UserError(str(error)) from error
        return draw_maps(folder, batch, 0, maps, pipeline.video_codec, pipeline.config.fps)


def noise_level(words: str) -> float:
    """Read a noise level u. UserError for anything else."""
    try:
        value: float | str = float(words or 0.5)
    except ValueError:
        value = words
    check_range("noise level", value, 0.01, 0.99, whole=False)
    return float(value)
