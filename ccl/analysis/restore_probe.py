"""Where in the noise a picture is spoilt: true clips with noise of a level on them, sampled on from there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from typing import Any

import torch
from torch import Tensor

from ccl.guidance import Guidance
from ccl.pipeline import CCLPipeline
from ccl.routing import Task
from ccl.sampler import STREAMS, Conditions, JointSampler
from ccl.training.objective import Batch
from shared.codecs import tensor_to_frames
from shared.evaluation.bootstrap import over_clips
from shared.evaluation.leakage import Truth
from shared.evaluation.validity import SceneReading
from shared.nn.flow import draw_noise, noisy, shift, u_grid
from shared.utils.config import Flow
from shared.utils.progress import bar as progress_bar

LEVELS = 0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95, 1.0
"""Sigma of the video that a clip begins at; at 1 nothing of it is left."""
LEAST_STEPS = 3


class RestoreProbe:
    """Task t2av of a pipeline on clips of the puppets: both streams begin as the true ones at one u, and are sampled
    down from there by default guidance, in `steps` steps from noise on and in proportion fewer from lower down.

    Measured is the picture, in dB by region against the drawing of the script that fits it (`SceneReading.decibels`):
    at a level it falls by what the model spoils below it. `codec`: of the true clips through the codec, the ceiling.
    """

    def __init__(self, pipeline: CCLPipeline, flow: Flow, truths: Mapping[str, Truth], steps: int, seed: int) -> None:
        self.pipeline, self.truths, self.steps, self.seed = pipeline, truths, steps, seed
        self.shifts = {"video": flow.video_shift, "audio": flow.audio_shift}
        self.guidance = Guidance()

    @torch.no_grad()
    def measure(self, batches: Sequence[Batch]) -> dict[str, dict[str, Any]]:
        """`over_clips` of dB by region, of each level and of "codec"."""
        found: dict[str, dict[str, dict[str, float]]] = {}
        ways = [("codec", None), *((f"{level:g}", level) for level in LEVELS)]
        with progress_bar(total=sum(len(batch.ids) for batch in batches), desc="restore", unit="clip") as bar:
            for batch in batches:
                for name, level in ways:
                    latents = batch.video if level is None else self._sampled(batch, level)
                    for clip, values in self._read(batch, latents):
                        for region, value in values.items():
                            found.setdefault(name, {}).setdefault(region, {})[clip] = value
                bar.update(len(batch.ids))
        return {name: {of: over_clips(values) for of, values in regions.items()} for name, regions in found.items()}

    def _sampled(self, batch: Batch, level: float) -> Tensor:
        """Latents of the video that come of the true ones at sigma `level`."""
        pipe, amount = self.pipeline, self.shifts["video"]
        start = level / (amount - (amount - 1) * level)  # u, where shift(u) is the level
        grid = torch.cat([start * u_grid(max(LEAST_STEPS, ceil(self.steps * start))), torch.zeros(1)])
        sigmas = {name: shift(grid, self.shifts[name]).tolist() for name in STREAMS}
        negative = pipe.text_encoder.encode([""] * len(batch.ids)).to(batch.video.device, pipe.transformer.dtype)
        conditions = Conditions({"video": batch.text, "audio": batch.audio_text}, negative)
        clocks = batch.video_clock, batch.audio_clock
        sampler = JointSampler(pipe.transformer, Task.T2AV.route, conditions, clocks, self.guidance, {})
        latents: dict[str, Tensor] = {}
        for name in STREAMS:
            clean = getattr(batch, name)
            noise = draw_noise(self.seed, 0, batch.ids, tuple(clean.shape[1:]), name).to(clean)
            latents[name] = noisy(clean, noise, torch.tensor(sigmas[name][0], device=clean.device))
        for step in range(len(grid) - 1):
            now = {name: sigmas[name][step] for name in STREAMS}
            for name, velocity in sampler.velocity(latents, now).items():
                latents[name] = latents[name] + (sigmas[name][step + 1] - now[name]) * velocity
        return latents["video"]

    def _read(self, batch: Batch, latents: Tensor) -> Iterator[tuple[str, dict[str, float]]]:
        """Decibels by region of each clip that latents [B, C, F, H, W] are of."""
        codec, fps = self.pipeline.video_codec, self.pipeline.config.fps
        for name, one in zip(batch.ids, latents, strict=True):
            truth = self.truths[name]
            pixels = codec.decode(one[None].to(codec.dtype), round(truth["duration"] * fps))
            frames = tensor_to_frames(pixels.float())[0].cpu().numpy()
            scene = SceneReading.read(frames, fps, truth["level"], str(truth["id"]).partition("-")[0])
            yield name, scene.decibels(scene)
