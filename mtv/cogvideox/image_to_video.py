"""CogVideoX of the image-to-video layout, as MTV's public weights have it (baaivision/MTVCraft).

Beside the latents stand as many channels of zeros; positions are learned, besides the rotation; and the tokens of
clean latents are modulated as of timestep 0 in every block, the others and the text as of the sample's timestep.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from typing import Any, Protocol

import torch
from diffusers import CogVideoXTransformer3DModel
from torch import Tensor, nn

from mtv.cogvideox.hooks import CogVideoXDenoiser, controlled, rotary_embedding
from shared.nn.dit import Control
from shared.utils.errors import UserError


class BackboneControl(Protocol):
    """A control that needs its backbone, its time embedding [B, d] and its rotation for each evaluation."""

    def bound(self, transformer: Any, time: Tensor, rotation: tuple[Tensor, Tensor] | None) -> Control: ...


class ImageToVideoDenoiser(CogVideoXDenoiser):
    """`denoise_video` as of `CogVideoXDenoiser`, with a `BackboneControl` in the control's place."""

    def _predict(self, x: Tensor, timesteps: Tensor, clean: Tensor, text: Tensor, control: Any) -> Tensor:
        transformer, (rows, frames, channels, *sides) = self.transformer, x.shape
        rotation = rotary_embedding(transformer, x)
        zeros = x.new_zeros(rows, frames, transformer.config.in_channels - channels, *sides)
        with ExitStack() as stack:
            stack.enter_context(controlled(transformer, stack.enter_context(bound(transformer, control, rotation))))
            stack.enter_context(learned_positions(transformer, frames))
            if clean.any():
                stack.enter_context(modulated_at_zero(transformer, clean, x.dtype))
            given = {"timestep": timesteps, "image_rotary_emb": rotation, "return_dict": False}
            return transformer(torch.cat([x, zeros], dim=2), text, **given)[0]


@contextmanager
def bound(
    transformer: CogVideoXTransformer3DModel, control: BackboneControl, rotation: tuple[Tensor, Tensor] | None
) -> Iterator[Control]:
    """Make the control of one pass, which is bound to the time embedding as the pass itself makes it: nothing of the
    transformer runs before, for where models are offloaded it is on its device in the pass alone."""
    acting: list[Control] = []

    def bind(_: nn.Module, args: tuple[Any, ...], time: Tensor) -> None:
        if not acting:  # the first is the pass's own
            acting.append(control.bound(transformer, time, rotation))

    handle = transformer.time_embedding.register_forward_hook(bind)
    try:
        yield lambda index, x: acting[0](index, x)
    finally:
        handle.remove()


def time_embedding(transformer: CogVideoXTransformer3DModel, timesteps: Tensor, dtype: torch.dtype) -> Tensor:
    """Embed timesteps [B] as the transformer does, [B, time_embed_dim]."""
    return transformer.time_embedding(transformer.time_proj(timesteps).to(dtype))


@contextmanager
def modulated_at_zero(transformer: CogVideoXTransformer3DModel, clean: Tensor, dtype: torch.dtype) -> Iterator[None]:
    """While this lasts, the tokens of latents where `clean` [B, F] have shift, scale and gate of timestep 0."""

    @cache
    def zero() -> Tensor:  # in the pass, when the transformer is on its device
        return time_embedding(transformer, torch.zeros(len(clean), dtype=torch.long, device=clean.device), dtype)

    with ExitStack() as stack:
        for block in transformer.transformer_blocks:
            for norm in (block.norm1, block.norm2):
                stack.callback(norm.register_forward_hook(partial(_modulate, clean, zero)).remove)
        yield


def _modulate(
    clean: Tensor, zero: Callable[[], Tensor], norm: Any, args: tuple[Tensor, ...], output: Any
) -> tuple[Tensor, ...]:
    """Make the output of a block's norm anew: modulated states and gate of the video, both of the text as they were."""
    (hidden, _, time), (_, text, _, text_gate), frames = args, output, clean.shape[1]
    now, then = (norm.linear(norm.silu(embedded)).chunk(6, dim=1)[:3] for embedded in (time, zero()))
    shift, scale, gate = (
        torch.where(clean[..., None], at_zero[:, None], usual[:, None]).repeat_interleave(
            hidden.shape[1] // frames, dim=1
        )
        for usual, at_zero in zip(now, then, strict=True)
    )
    return norm.norm(hidden) * (1 + scale) + shift, text, gate, text_gate


@contextmanager
def learned_positions(transformer: CogVideoXTransformer3DModel, frames: int) -> Iterator[None]:
    """While this lasts, fewer latents than the model was trained with have the first of the learned positions.

    diffusers (0.42) would give sines to another number of them. UserError for more than the model has.
    """
    patch = transformer.patch_embed
    if not patch.use_learned_positional_embeddings:
        yield
        return
    most = (patch.sample_frames - 1) // patch.temporal_compression_ratio + 1
    if frames > most:
        told = f"a window of {patch.sample_frames} frames is the longest that this model has positions for"
        raise UserError(f"{told}: {most} latents, not {frames}; give a shorter --window")
    space = (patch.sample_height // patch.patch_size) * (patch.sample_width // patch.patch_size)

    def first(*_: Any, device: torch.device) -> Tensor:
        return patch.pos_embedding[:, : patch.max_text_seq_length + frames * space].to(device)

    patch._get_positional_embeddings = first
    try:
        yield
    finally:
        del patch._get_positional_embeddings


def trained_size(transformer: CogVideoXTransformer3DModel, spatial_stride: int) -> tuple[int, int] | None:
    """Height and width in pixels that a model with learned positions is bound to; None: it is not."""
    config = transformer.config
    if not config.use_learned_positional_embeddings:
        return None
    return config.sample_height * spatial_stride, config.sample_width * spatial_stride
