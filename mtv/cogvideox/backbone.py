"""MST-ControlNet on diffusers' CogVideoX, the backbone of the MTV paper, and its epsilon objective (Eq. 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from diffusers import CogVideoXTransformer3DModel
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from shared.nn.clock import LatentClock
from shared.nn.dit import Control
from shared.utils.errors import UserError


@contextmanager
def controlled(transformer: CogVideoXTransformer3DModel, control: Control) -> Iterator[None]:
    """While this lasts, `control(i, h)` acts in block i after attention and before the feed-forward half.

    h [B, F·S, D] are the video tokens alone, frame-major, as in `shared.nn.dit`. With gradient checkpointing the
    backward pass belongs inside too: it runs the blocks again.

    Raises:
        UserError: a transformer that folds two latents into one token (CogVideoX 1.5), where no interval is a frame's.
    """
    if transformer.config.patch_size_t not in (None, 1):
        raise UserError(
            f"this CogVideoX joins {transformer.config.patch_size_t} latents in a token (patch_size_t, version 1.5); "
            "audio control needs one latent frame per token: use CogVideoX 1.0 (2b or 5b)"
        )
    with ExitStack() as stack:
        for index, block in enumerate(transformer.transformer_blocks):
            for handle in _attach(block, index, control):
                stack.callback(handle.remove)
        yield


def _attach(block: nn.Module, index: int, control: Control) -> list[RemovableHandle]:
    """Hooks that let `control` act on the hidden states between the two halves of a CogVideoX block.

    A block is h <- h + attention, then h + FFN(norm2(h)). `norm2` is the first to see the states after attention, but
    changing its input does not reach the residual sum, so the change is added to the block's output once more:
    (h + Δ) + FFN(norm2(h + Δ)) is what a change in between would give.
    """
    change: list[Tensor] = []

    def before_norm(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x, *rest = args
        change[:] = [control(index, x) - x]  # replaces, never adds: a checkpointed pass may stop before the block ends
        return (x + change[0], *rest)

    def after_block(_: nn.Module, args: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, text = output
        return x + change.pop(), text

    norm = block.get_submodule("norm2")
    return [norm.register_forward_pre_hook(before_norm), block.register_forward_hook(after_block)]


@contextmanager
def steered(transformer: CogVideoXTransformer3DModel, at: Callable[[Tensor], Control]) -> Iterator[None]:
    """`controlled` for sampling: every call of the transformer has the control of its own timestep.

    `at(sigma)` makes it, sigma [B] = timestep/1000: `lambda sigma: net.control(encoded, sigma)`. Inside, diffusers'
    `CogVideoXPipeline` samples as ever; with its guidance B is twice the prompts, the unconditional ones first.
    """
    current: list[Control] = []

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        timestep = kwargs["timestep"] if "timestep" in kwargs else args[2]
        current[:] = [at(timestep / 1000)]

    with controlled(transformer, lambda index, x: current[0](index, x)), ExitStack() as stack:
        stack.callback(transformer.register_forward_pre_hook(before, with_kwargs=True).remove)
        yield


class CogVideoXDenoiser:
    """`denoise_video` on a `CogVideoXTransformer3DModel`: what `mtv.windows.WindowSampler` asks of a backbone."""

    def __init__(self, transformer: CogVideoXTransformer3DModel) -> None:
        self.transformer = transformer

    def denoise_video(
        self, latents: Tensor, sigma: Tensor, text: Tensor, clock: LatentClock, control: Control
    ) -> Tensor:
        """Epsilon or v, as the folder's scheduler has it, of latents [B, C, F, h, w].

        sigma [B, F] is timestep/1000, and 0 at clean latents: the transformer has one timestep per sample, that of
        the others. Positions are the latents' numbers, so `clock` says nothing more.
        """
        x = latents.transpose(1, 2)
        with controlled(self.transformer, control):
            prediction = self.transformer(
                hidden_states=x,
                encoder_hidden_states=text,
                timestep=(sigma.amax(1) * 1000).round().long(),
                image_rotary_emb=rotary_embedding(self.transformer, x),
                return_dict=False,
            )[0]
        return prediction.transpose(1, 2)


def rotary_embedding(transformer: CogVideoXTransformer3DModel, latents: Tensor) -> tuple[Tensor, Tensor] | None:
    """The rotation that goes with latents [B, F, C, H, W]: (cos, sin), or None for a model without (the 2b)."""
    config = transformer.config
    if not config.use_rotary_positional_embeddings:
        return None
    grid = (latents.shape[3] // config.patch_size, latents.shape[4] // config.patch_size)
    base = (config.sample_width // config.patch_size, config.sample_height // config.patch_size)
    return get_3d_rotary_pos_embed(
        embed_dim=config.attention_head_dim,
        crops_coords=get_resize_crop_region_for_grid(grid, *base),
        grid_size=grid,
        temporal_size=latents.shape[1],
        device=latents.device,
    )


def predicted_epsilon(scheduler: Any, prediction: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
    """The noise that a prediction means, float32 of its shape.

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
