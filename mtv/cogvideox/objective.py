"""The epsilon objective of the MTV paper (arXiv 2506.08003, Eq. 1) on CogVideoX, that of v, and what a pass costs."""

from typing import Any

import torch
from diffusers import CogVideoXTransformer3DModel
from torch import Tensor

from mtv.cogvideox.hooks import rotary_embedding
from shared.nn.flops import count_flops
from shared.utils.errors import UserError
from shared.utils.rng import generator


def draw_timesteps(seed: int, step: int, ids: list[str], count: int) -> Tensor:
    """[B] int64, uniform in 0 .. count − 1, keyed by (seed, step, sample id)."""
    return torch.stack([torch.randint(count, (), generator=generator(seed, "timestep", step, clip)) for clip in ids])


def predicted_epsilon(scheduler: Any, prediction: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
    """Find the noise that a prediction means, float32 of its shape.

    With x_t = √ᾱ x_0 + √(1−ᾱ) ε and v = √ᾱ ε − √(1−ᾱ) x_0: ε = √(1−ᾱ) x_t + √ᾱ v. At the last timestep of a schedule
    rescaled to zero SNR (ᾱ = 0) that is x_t itself, so such a sample teaches a v-model nothing.
    UserError for a scheduler whose prediction_type is neither epsilon nor v_prediction.
    """
    if (kind := scheduler.config.prediction_type) == "epsilon":
        return prediction.float()
    if kind != "v_prediction":
        raise UserError(f"the scheduler's prediction_type is {kind!r}; CogVideoX needs 'epsilon' or 'v_prediction'")
    signal = scheduler.alphas_cumprod.to(noisy.device)[timesteps].float().view(-1, *[1] * (noisy.ndim - 1))
    return (1 - signal).sqrt() * noisy.float() + signal.sqrt() * prediction.float()


def diffusion_loss(
    transformer: Any, scheduler: Any, latents: Tensor, text: Tensor, timesteps: Tensor, noise: Tensor, clean: Tensor,
    epsilon: float = 1.0, v: float = 0.0,
) -> Tensor:  # fmt: skip
    """`epsilon`·‖ε − ε_θ(x_t, t, text)‖² + `v`·‖v − v_θ(x_t, t, text)‖² of each sample, [B]; call it in `controlled`.

    The first is MTV's Eq. 1; the second, of a model that predicts v = √ᾱ ε − √(1−ᾱ) x_0, is what its public weights
    were trained with: the error of x_0 over 1 − ᾱ. For such a model the first is ᾱ times the second, nothing at ᾱ = 0.

    latents and noise [B, F, C, H, W], latents scaled by the VAE's factor; text [B, L, D]; timesteps [B], integers below
    the scheduler's num_train_timesteps. clean [B, F] is True where a latent frame is given (image, prefix, keyframes):
    it enters without noise and does not count. ValueError for a sample of clean latents alone.
    """
    if clean.all(1).any():
        raise ValueError("a sample whose latents are all clean has nothing to predict")
    noisy = scheduler.add_noise(latents, noise, timesteps)
    noisy = torch.where(clean[:, :, None, None, None], latents, noisy)
    rotation = rotary_embedding(transformer, latents)
    prediction = transformer(noisy, text, timesteps, image_rotary_emb=rotation, return_dict=False)[0]
    error = torch.zeros((), device=prediction.device)
    if epsilon:
        found = predicted_epsilon(scheduler, prediction, noisy, timesteps)
        error = error + epsilon * (found - noise.float()).square().mean((2, 3, 4))
    if v:
        target = scheduler.get_velocity(latents.float(), noise.float(), timesteps)
        error = error + v * (prediction.float() - target).square().mean((2, 3, 4))
    return (error * ~clean).sum(1) / (~clean).sum(1)


def cogvideox_flops(transformer: CogVideoXTransformer3DModel, latents: tuple[int, ...], text: int) -> int:
    """Operations of one forward pass for latents of shape (F, C, h, w) and `text` tokens."""
    with torch.device("meta"):
        twin = CogVideoXTransformer3DModel.from_config(transformer.config)
        x, words = torch.empty(1, *latents), torch.empty(1, text, transformer.config.text_embed_dim)
        timestep, rotation = torch.zeros(1, dtype=torch.long), rotary_embedding(twin, x)
    return count_flops(lambda: twin(x, words, timestep, image_rotary_emb=rotation, return_dict=False))
