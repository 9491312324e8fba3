"""Training of audio-driven video on CogVideoX alone: the epsilon objective of the MTV paper (Eq. 1), for the trainer.

The joint model's training of the same control network is one task of `ccl.training.objective`, unknown here.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import cache, partial
from typing import Any, Protocol

import torch
from diffusers import CogVideoXTransformer3DModel
from torch import Tensor, nn

from mtv.cogvideox.hooks import controlled, rotary_embedding
from mtv.control import MSTControlNet, TrackFeatures
from mtv.flops import forward_flops
from shared.nn.dit import Control
from shared.nn.flops import count_flops
from shared.nn.flow import draw_noise
from shared.training.flops import StepCost, step_cost, trained_share
from shared.training.log import LossRecord
from shared.training.trainer import StepOutput
from shared.utils.errors import UserError
from shared.utils.rng import generator


class VideoBatch(Protocol):
    """What the objective reads of a micro-batch; `ccl.training.batches.JointBatches` makes such.

    Attributes:
        step, ids: key what is random. video: latents [B, C, F, h, w]. text: [B, L, D]. clean_frames: [B, F] bool,
            given latents. tracks: features of all samples.
    """

    step: int
    ids: list[str]
    video: Tensor
    text: Tensor
    clean_frames: Tensor
    tracks: TrackFeatures


class EpsilonObjective(nn.Module):
    """`objective(batch) -> StepOutput`: `epsilon_loss` of each sample, at a timestep of its own.

    The blocks are computed again in the backward pass (gradient checkpointing): at full size their activations are what
    fills the memory. So the hooks stay, and act by the control of the last forward pass.
    """

    def __init__(
        self, transformer: CogVideoXTransformer3DModel, control: MSTControlNet, scheduler: Any, seed: int
    ) -> None:
        super().__init__()
        self.transformer, self.control = transformer, control
        self.scheduler, self.seed = scheduler, seed
        self._act: Control | None = None
        self._trained = trained_share(transformer)
        self._backbone_flops = cache(partial(cogvideox_flops, transformer))
        self._control_flops = cache(partial(forward_flops, control))
        transformer.enable_gradient_checkpointing()
        self._hooks = ExitStack()
        self._hooks.enter_context(controlled(transformer, self._inject))

    def forward(self, batch: VideoBatch) -> StepOutput:
        timesteps = draw_timesteps(self.seed, batch.step, batch.ids, self.scheduler.config.num_train_timesteps)
        timesteps = timesteps.to(batch.video.device)
        sigma = timesteps / 1000
        self._act = self.control(batch.tracks, torch.where(batch.clean_frames, 0.0, sigma[:, None]))
        noise = draw_noise(self.seed, batch.step, batch.ids, tuple(batch.video.shape[1:]), "video").to(batch.video)
        latents, noise = batch.video.transpose(1, 2), noise.transpose(1, 2)  # as the transformer has them
        cost = self._cost(tuple(latents.shape), batch.text.shape[1])
        loss = epsilon_loss(self.transformer, self.scheduler, latents, batch.text, timesteps, noise, batch.clean_frames)
        return StepOutput(loss.mean(), [LossRecord("video", "mtv", sigma, loss.detach(), cost)])

    def _cost(self, shape: tuple[int, ...], text: int) -> StepCost:
        """Count what a training step takes of latents of this shape [B, F, C, h, w]."""
        clips, frames, _, height, width = shape
        space = (height // self.transformer.config.patch_size) * (width // self.transformer.config.patch_size)
        forward = self._backbone_flops(shape[1:], text) + self._control_flops(frames, space)
        return step_cost(clips * frames * space, clips * forward, self._trained, recomputed=True)

    def _inject(self, index: int, x: Tensor) -> Tensor:
        assert self._act is not None, "a block runs within a forward pass, or again after it"
        return self._act(index, x)


def draw_timesteps(seed: int, step: int, ids: list[str], count: int) -> Tensor:
    """[B] int64, uniform in 0 .. count − 1, keyed by (seed, step, sample id)."""
    drawn = [torch.randint(count, (), generator=generator(seed, "timestep", step, clip)) for clip in ids]
    return torch.stack(drawn)


def predicted_epsilon(scheduler: Any, prediction: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
    """Find the noise that a prediction means, float32 of its shape.

    With x_t = √ᾱ x_0 + √(1−ᾱ) ε and v = √ᾱ ε − √(1−ᾱ) x_0: ε = √(1−ᾱ) x_t + √ᾱ v. At the last timestep of a schedule
    rescaled to zero SNR (ᾱ = 0) that is x_t itself, so such a sample teaches a v-model nothing.

    Raises:
        UserError: a scheduler whose prediction_type is neither epsilon nor v_prediction.
    """
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return prediction.float()
    if kind != "v_prediction":
        raise UserError(
            f"the scheduler's prediction_type is {kind!r}; training on CogVideoX needs 'epsilon' or 'v_prediction'"
        )
    signal = scheduler.alphas_cumprod.to(noisy.device)[timesteps].float().view(-1, *[1] * (noisy.ndim - 1))
    return (1 - signal).sqrt() * noisy.float() + signal.sqrt() * prediction.float()


def epsilon_loss(
    transformer: CogVideoXTransformer3DModel,
    scheduler: Any,
    latents: Tensor,
    text: Tensor,
    timesteps: Tensor,
    noise: Tensor,
    clean: Tensor | None = None,
) -> Tensor:
    """E ‖ε − ε_θ(x_t, t, text)‖² of each sample, [B] (MTV Eq. 1); call it inside `controlled`.

    Args:
        scheduler: diffusers' `CogVideoXDDIMScheduler` or `CogVideoXDPMScheduler`; a v-prediction is turned into
            epsilon.
        latents, noise: [B, F, C, H, W], latents as the scheduler wants them (scaled by the VAE's factor).
        text: [B, L, text_embed_dim].
        timesteps: [B], integers from 0 below the scheduler's num_train_timesteps.
        clean: [B, F], True where a latent frame is given (image, prefix, keyframes): it enters without noise and does
            not count.

    Raises:
        UserError: of `predicted_epsilon`. ValueError: a sample of clean latents alone.
    """
    noisy = scheduler.add_noise(latents, noise, timesteps)
    counted = torch.ones(latents.shape[:2], dtype=torch.bool, device=latents.device) if clean is None else ~clean
    if not counted.any(1).all():
        raise ValueError("a sample whose latents are all clean has nothing to predict")
    noisy = torch.where(counted[:, :, None, None, None], noisy, latents)
    prediction = transformer(
        hidden_states=noisy,
        encoder_hidden_states=text,
        timestep=timesteps,
        image_rotary_emb=rotary_embedding(transformer, latents),
        return_dict=False,
    )[0]
    error = (predicted_epsilon(scheduler, prediction, noisy, timesteps) - noise.float()).square().mean((2, 3, 4))
    return (error * counted).sum(1) / counted.sum(1)


def cogvideox_flops(transformer: CogVideoXTransformer3DModel, latents: tuple[int, ...], text: int) -> int:
    """Operations of one forward pass for latents of shape (F, C, h, w) and `text` tokens."""
    with torch.device("meta"):
        twin = CogVideoXTransformer3DModel.from_config(transformer.config)
        x, words = torch.empty(1, *latents), torch.empty(1, text, transformer.config.text_embed_dim)
        timestep, rotation = torch.zeros(1, dtype=torch.long), rotary_embedding(twin, x)
    return count_flops(lambda: twin(x, words, timestep, image_rotary_emb=rotation, return_dict=False))
