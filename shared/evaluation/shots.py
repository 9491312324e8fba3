"""Held-out clips of two shots: made from prompts over time, measured shot by shot, and around the cut.

Each shot is a clip of its own: its frames and its sound, cut at the exact cut, against its own caption. A model that
goes from one text to the other through grey passes as long as it is right for most of a shot; so validity is measured
again in the last and the first quarter of a second beside the cut, and in all other frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.blocks import Cell
from shared.evaluation.held_out import MeasuredClip, Sampled, code_picture, code_sound, cut_at, pipeline_rate
from shared.evaluation.measures import SceneClip
from shared.evaluation.seams import AROUND, seam_scores
from shared.evaluation.validity import Window
from shared.puppets.clip import audio_caption, caption, render_show
from shared.puppets.script import HELD_OUT_SEED, Spec
from shared.puppets.shows import Show, sample_show, usual
from shared.utils.progress import bar as progress_bar

SHOTS = 2


@dataclass(frozen=True)
class HeldOutShots:
    """Held-out shows of two shots at the pipeline's rates and size. `specs` and `coded` hold their shots in a row, shot
    k of show i at SHOTS i + k, `coded` as they come from the codecs, which the whole show went through; `whole`: each
    show as one script, of which only id, rates and length are meant."""

    shows: list[Show]
    whole: list[Spec]
    specs: list[Spec]
    coded: list[MeasuredClip]
    cell: Cell

    @classmethod
    def make(
        cls, pipeline: Any, clips: int, seconds: int | None = None, held_out_pairs: bool = False, twins: bool = False
    ) -> HeldOutShots:
        """Render the first `clips` of two shots, of a length if one is given; the rest as `HeldOut.make`."""
        stride = pipeline.video_codec.spatial_stride
        made = cls([], [], [], [], (stride, stride))
        fit = (show for show in _shows(pipeline, held_out_pairs, twins) if seconds in (None, _seconds(show)))
        for show in progress_bar(islice(fit, clips), total=clips, desc="held-out shots", unit="clip"):
            show = at_rates(show, pipeline.config.fps, pipeline_rate(pipeline, show.shots[0].rate))
            clip = render_show(show)
            coded = code_picture(pipeline, clip.frames), code_sound(pipeline, clip.mix)
            made.shows.append(show)
            made.whole.append(replace(show.shots[0], frames=len(clip.frames)))
            made.specs.extend(show.shots)
            parts = zip(show.shots, *cut_at(show, *coded), strict=True)
            made.coded.extend(MeasuredClip.read(frames, sound, shot) for shot, frames, sound in parts)
        return made

    def texts(self, index: int) -> tuple[tuple[float, ...], tuple[str, ...], tuple[str, ...]]:
        """Seconds at which the captions of a show begin, the captions, and those of the sound."""
        shots = self.shows[index].shots
        return self.shows[index].starts, tuple(map(caption, shots)), tuple(map(audio_caption, shots))


def _shows(pipeline: Any, held_out_pairs: bool, twins: bool) -> Iterator[Show]:
    """Draw shows of exactly SHOTS shots, in the order of their numbers."""
    size = (pipeline.config.height, pipeline.config.width)
    for index in count():
        show = sample_show(HELD_OUT_SEED, index, size, SHOTS, held_out=held_out_pairs or twins)
        if len(show.shots) == SHOTS:
            yield usual(show) if twins else show


def _seconds(show: Show) -> float:
    return sum(shot.duration for shot in show.shots)


def at_rates(show: Show, fps: float, rate: int) -> Show:
    """Show the same at `fps` frames and `rate` samples a second, the cut on the nearest frame."""
    edges = [round(seconds * fps) for seconds in (*show.starts, _seconds(show))]
    lengths = np.diff(edges).tolist()
    shots = zip(show.shots, lengths, strict=True)
    return Show(tuple(replace(shot, fps=fps, rate=rate, frames=length) for shot, length in shots))  # type: ignore[arg-type]


def by_shot(shows: Mapping[int, Sampled]) -> dict[int, Sampled]:
    """Collect what was made of the shots of each show, numbered as `HeldOutShots` has them."""
    return {SHOTS * i + k: shot for i, made in shows.items() for k, shot in enumerate(made["shots"])}


def joined(shots: Sequence[MeasuredClip], frames: NDArray[np.uint8], sound: NDArray[np.float32]) -> MeasuredClip:
    """Join the shots of a show to a clip to look at: whole streams, onsets of all shots, and no mouths."""
    first = shots[0]
    starts = np.cumsum([0, *(len(shot.frames) / shot.video.fps for shot in shots[:-1])])
    seen, heard = (
        np.concatenate([getattr(shot, name).onsets + start for shot, start in zip(shots, starts, strict=True)])
        for name in ("video", "audio")
    )
    audio = replace(first.audio, onsets=heard, loudness=np.concatenate([shot.audio.loudness for shot in shots]))
    return replace(first, frames=frames, sound=sound, video=replace(first.video, onsets=seen, mouths=()), audio=audio)


def windows(clip: SceneClip, number: int) -> tuple[Window, Window]:
    """Frames of shot `number` of a row of shots that are around the cut, and those elsewhere, bool [T] each."""
    frames = len(clip.scene.frames)
    beside = min(frames - 1, max(1, round(AROUND * clip.spec.fps)))
    near = np.zeros(frames, bool)
    near[frames - beside :] = number % SHOTS == 0
    near[:beside] |= number % SHOTS > 0
    return near, ~near


def cut_scores(
    sampled: Sequence[SceneClip], true: Sequence[SceneClip], numbers: Sequence[int], seed: int = 0
) -> dict[str, Any]:
    """Measure validity around the cut and elsewhere, of shots `numbers`, all those of each show: `seam_scores`."""
    inside = [windows(clip, number) for clip, number in zip(true, numbers, strict=True)]
    return seam_scores(sampled, true, inside, [number // SHOTS for number in numbers], seed)
