"""A long video in windows: each begins with the last frames of the one before (MTV, arXiv 2506.08003, "Long video").

The frames that two windows share are encoded again and stay clean in the second, so it goes on from them. Which windows
there are: `shared.utils.windows`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mtv.control import EncodedTracks, MSTControlNet, TrackFeatures
from mtv.guidance import TrackGuidance, TrackState, combine
from shared.encoders.timed_prompts import TimedPrompts
from shared.nn.cache_context import begin_sample, evaluation
from shared.nn.clock import LatentClock
from shared.nn.dit import Control
from shared.nn.timed_text import Text, text_over_time
from shared.utils.calling import StepEnd
from shared.utils.errors import UserError
from shared.utils.windows import Window

_SAME_TIME = 1e-6  # of a frame; a time this little before a frame is that frame's


@dataclass
class WindowProgress:
    """How far a video is: finished windows, and the last frames of them, [B, 3, n, H, W], which the next takes over.
    `MTVPipeline.stream` begins there, and brings it up to date before it yields a window's frames."""

    done: int = 0
    last: Tensor | None = None


@dataclass(frozen=True)
class LongVideo:
    """What the windows of one video share.

    `texts`: [L, D] of each text in the prompts; `negative`: [B, L, D]. `tracks`: features of the whole sound, on the
    CPU. `pictures`: by time, [B, 3, H, W]; `keyframes`: of `place_keyframes`. `size`: (height, width) in pixels. `fps`:
    frames a second, which every window's clock has.
    """

    prompts: list[TimedPrompts]
    texts: dict[str, Tensor]
    negative: Tensor
    tracks: TrackFeatures
    windows: list[Window]
    pictures: dict[float, Tensor]
    keyframes: list[dict[int, float]]
    seeds: list[int]
    size: tuple[int, int]
    fps: float
    steps: int
    guidance: TrackGuidance
    end: StepEnd
    progress: WindowProgress


def place_keyframes(
    times: Iterable[float], windows: list[Window], fps: float, temporal_stride: int
) -> list[dict[int, float]]:
    """By window: which of its latents, that of the frame on show then, is made from the picture of which second.

    UserError for a time outside the video, or in the same latent as another.
    """
    frames, placed = windows[-1].end, [dict[int, float]() for _ in windows]
    for time in times:
        frame = math.floor(time * fps + _SAME_TIME) if math.isfinite(time) else -1
        if not 0 <= frame < frames:
            raise UserError(f"a keyframe at {time:g} s; the video lasts from 0 to {frames / fps:g} s")
        index = next(i for i, window in enumerate(windows) if frame < window.end)
        latent = -(-(frame - windows[index].start) // temporal_stride)
        if latent in placed[index]:
            both = f"{placed[index][latent]:g} s and {time:g} s share a latent of {temporal_stride} frames"
            raise UserError(f"keyframes at {both}; keep one, or move them apart")
        placed[index][latent] = time
    return placed


def fitted_picture(picture: Tensor, time: float, size: tuple[int, int], batch: int) -> Tensor:
    """Batch [batch, 3, H, W], float32, of a given picture [B or 1, 3, H, W]. UserError if it is of another size or
    number."""
    if tuple(picture.shape[-2:]) != size:
        found, wanted = list(picture.shape), f"[3, {size[0]}, {size[1]}]"
        raise UserError(f"the picture at {time:g} s is {found}; the sample needs {wanted}: resize one of them")
    if picture.shape[0] not in (1, batch):
        raise UserError(f"{picture.shape[0]} pictures at {time:g} s for {batch} prompts; give one, or one per prompt")
    return picture.float().expand(batch, -1, -1, -1)


def window_text(prompts: Sequence[TimedPrompts], texts: Mapping[str, Tensor], clock: LatentClock) -> Text:
    """Find what the latents of a window read, one text per sample ([B, L, D]) or several over its time.

    `clock` is the window's on the video's time; `texts`: [L, D] of each text in the prompts.
    """
    return text_over_time(prompts, clock, lambda names: torch.stack([texts[name] for name in names]))


@dataclass
class WindowSampler:
    """Guided predictions of one window: velocities; on CogVideoX epsilon or v, which guidance weighs alike.

    `model` has `denoise_video`; the `tracks` of the window's frames act through `network`. `text` is what the latents
    read, as `window_text` makes it, and `negative` [B, L, D] the text 0c; `clean` are the latents that are given, by
    index, [B, C, h, w]; they have sigma 0.
    """

    model: Any
    network: MSTControlNet
    tracks: TrackFeatures
    text: Text
    negative: Tensor
    clock: LatentClock
    clean: Mapping[int, Tensor]
    guidance: TrackGuidance
    encoded: dict[str, EncodedTracks] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        begin_sample(self.model)

    def restore_clean(self, latents: Tensor) -> Tensor:
        """Put the clean latents where noise was drawn or a solver step has moved them."""
        latents = latents.clone() if self.clean else latents
        for index, given in self.clean.items():
            latents[:, :, index] = given.to(latents)
        return latents

    def velocity(self, latents: Tensor, sigma: float, until: float | None = None) -> Tensor:
        """Predict for latents [B, C, F, h, w] at `sigma`, of a model with `average` down to `until`, if that is given;
        states of weight 0 are not evaluated."""

        def levels(level: float) -> Tensor:
            sigmas = torch.full((len(latents), len(self.clock)), level, device=latents.device, dtype=torch.float32)
            sigmas[:, list(self.clean)] = 0
            return sigmas

        lower = None if until is None else levels(until)
        return self.predict(latents, levels(sigma), self.guidance.weights(sigma), lower)

    def predict(
        self, latents: Tensor, sigmas: Tensor, weights: Mapping[TrackState, float], until: Tensor | None = None
    ) -> Tensor:
        """Predict at a noise level of each latent in time [B, F], by weighed states."""
        controls = {}
        for dropped in dict.fromkeys(state.dropped for state in weights):
            if dropped not in self.encoded:  # once per window
                self.encoded[dropped] = self.network.encode(self.tracks.without(dropped) if dropped else self.tracks)
            controls[dropped] = self.network.control(self.encoded[dropped], sigmas)
        return combine(weights, {s: self._predict(s, latents, sigmas, controls[s.dropped], until) for s in weights})

    def _predict(
        self, state: TrackState, latents: Tensor, sigmas: Tensor, control: Control, until: Tensor | None
    ) -> Tensor:
        text, more = self.text if state.text else self.negative, {} if until is None else {"until": until}
        with evaluation(self.model, repr(state)):
            return self.model.denoise_video(latents.to(text.dtype), sigmas, text, self.clock, control, **more).float()
