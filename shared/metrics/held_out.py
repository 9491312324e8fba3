"""Held-out clips of the stage: as rendered, through the codecs, and with what is seen and heard in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from shared.codecs import frames_to_tensor, tensor_to_frames
from shared.data.stage import render_clip
from shared.data.stage_script import Spec, sample_spec
from shared.metrics.scores import Reading
from shared.metrics.stage_read import Heard, Seen, read_picture, read_sound

if TYPE_CHECKING:
    from ccl.pipeline import CCLPipeline

HELD_OUT_SEED = 900001
"""Seed of the held-out clips. `make_stage.py` must not be given it for training data."""


@dataclass
class Take:
    """Picture uint8 [T, H, W, 3] and sound float32 [N] of one clip, with their readings."""

    frames: NDArray[np.uint8]
    sound: NDArray[np.float32]
    seen: Seen
    heard: Heard


@dataclass
class HeldOut:
    """The held-out clips at the pipeline's frame rate, size and sample rate: as rendered and through the
    codecs."""

    specs: list[Spec]
    captions: list[tuple[str, str]]
    rendered: list[Take]
    coded: list[Take]

    @classmethod
    def make(cls, pipeline: CCLPipeline, level: str, clips: int) -> HeldOut:
        held_out = cls([held_out_script(pipeline, level, i) for i in range(clips)], [], [], [])
        for spec in tqdm(held_out.specs, desc="held-out clips", unit="clip"):
            clip = render_clip(spec)
            video = frames_to_tensor(torch.from_numpy(clip.frames))[None].to(pipeline.device)
            sound = torch.from_numpy(clip.mix)[None, None].to(pipeline.device)
            with torch.no_grad():
                picture = pipeline.video_codec.decode(pipeline.video_codec.encode(video), video.shape[2])
                heard = pipeline.audio_codec.decode(pipeline.audio_codec.encode(sound), sound.shape[2])
            frames = tensor_to_frames(picture)[0].cpu().numpy()
            held_out.captions.append((clip.caption, clip.audio_caption))
            held_out.rendered.append(take(clip.frames, clip.mix, spec))
            held_out.coded.append(take(frames, heard[0, 0].cpu().numpy(), spec))
        return held_out

    def true(self, task: str) -> list[Reading]:
        """Readings of the true clips, what the task makes having passed through the codec."""
        picture = self.rendered if task == "v2a" else self.coded
        sound = self.rendered if task == "a2v" else self.coded
        return readings(self.specs, [p.seen for p in picture], [s.heard for s in sound])


def held_out_script(pipeline: CCLPipeline, level: str, index: int) -> Spec:
    """A held-out script; its times are in seconds, so it can be rendered at the pipeline's rates and size."""
    spec = sample_spec(HELD_OUT_SEED, index, level, (pipeline.config.height, pipeline.config.width))
    fps = pipeline.config.fps
    return replace(spec, fps=fps, frames=round(spec.duration * fps), rate=pipeline.audio_codec.sample_rate)


def take(frames: NDArray[np.uint8], sound: NDArray[np.float32], spec: Spec) -> Take:
    return Take(frames, sound, read_picture(frames, spec.fps, spec), read_sound(sound, spec.rate))


def readings(specs: Sequence[Spec], seen: Sequence[Seen], heard: Sequence[Heard]) -> list[Reading]:
    return [Reading(*parts) for parts in zip(specs, seen, heard, strict=True)]


def batches(specs: Sequence[Spec], size: int) -> Iterator[list[int]]:
    """Indices of clips of one length, up to `size` at a time."""
    for frames in sorted({spec.frames for spec in specs}):
        same = [i for i, spec in enumerate(specs) if spec.frames == frames]
        yield from (same[start : start + size] for start in range(0, len(same), size))
