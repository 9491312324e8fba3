"""MST-ControlNet on diffusers' CogVideoX, the backbone of the MTV paper: hooks into its blocks."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from diffusers import CogVideoXTransformer3DModel
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from shared.nn.clock import LatentClock
from shared.nn.dit import Control
from shared.nn.timed_text import Text, TimedText
from shared.utils.errors import UserError


@contextmanager
def controlled(transformer: CogVideoXTransformer3DModel, control: Control) -> Iterator[None]:
    """While this lasts, `control(i, h)` acts in block i after attention and before the feed-forward half.

    h [B, F·S, D] are the video tokens alone, frame-major, as in `shared.nn.dit`. With gradient checkpointing the
    backward pass belongs inside too: it runs the blocks again.
    UserError for a transformer that folds two latents into one token (CogVideoX 1.5), where no interval is a frame's.
    """
    if (joined := transformer.config.patch_size_t) not in (None, 1):
        needed = "audio control needs one latent frame per token: use CogVideoX 1.0 (2b or 5b)"
        raise UserError(f"this CogVideoX joins {joined} latents in a token (patch_size_t, version 1.5); {needed}")
    with ExitStack() as stack:
        for index, block in enumerate(transformer.transformer_blocks):
            for handle in _attach(block, index, control):
                stack.callback(handle.remove)
        yield


def _attach(block: nn.Module, index: int, control: Control) -> list[RemovableHandle]:
    """Hooks that let `control` act between the two halves of a block.

    A block is h <- h + attention, then h + FFN(norm2(h)). `norm2` is the first to see the states after attention, but
    its input is not the residual sum's, so the change is added to the block's output too: (h + Δ) + FFN(norm2(h + Δ)).
    """
    change: list[Tensor] = []

    def before_norm(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x, *rest = args
        change[:] = [control(index, x) - x]  # replaces, never adds: a checkpointed pass may stop before the block ends
        return (x + change[0], *rest)

    def after_block(_: nn.Module, args: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return output[0] + change.pop(), output[1]

    norm = block.get_submodule("norm2")
    return [norm.register_forward_pre_hook(before_norm), block.register_forward_hook(after_block)]


class CogVideoXDenoiser:
    """`denoise_video` on a `CogVideoXTransformer3DModel`: what `mtv.windows.WindowSampler` asks of a backbone."""

    def __init__(self, transformer: CogVideoXTransformer3DModel) -> None:
        self.transformer = transformer

    def denoise_video(self, latents: Tensor, sigma: Tensor, text: Text, clock: LatentClock, control: Control) -> Tensor:
        """Epsilon or v, as the scheduler has it, of latents [B, C, F, h, w], whose numbers are their positions.

        sigma [B, F] is timestep/1000, and 0 at clean latents: the transformer has one per sample, that of the others.
        It reads text and video in one attention, so of texts over time the predictions with each are summed by weight.
        """
        if isinstance(text, TimedText):
            parts = (
                self.denoise_video(latents, sigma, one, clock, control) * weight[:, None, :, None, None].to(latents)
                for one, weight in text.layers()
            )
            return sum(parts, start=latents.new_zeros(()))
        x, timesteps = latents.transpose(1, 2), (sigma.amax(1) * 1000).round().long()
        return self._predict(x, timesteps, sigma == 0, text, control).transpose(1, 2)

    def _predict(self, x: Tensor, timesteps: Tensor, clean: Tensor, text: Tensor, control: Control) -> Tensor:
        """Run the transformer on x [B, F, C, h, w] at timesteps [B]; `clean` [B, F] are the latents that are given."""
        rotation = rotary_embedding(self.transformer, x)
        with controlled(self.transformer, control):
            return self.transformer(x, text, timestep=timesteps, image_rotary_emb=rotation, return_dict=False)[0]


def rotary_embedding(transformer: CogVideoXTransformer3DModel, latents: Tensor) -> tuple[Tensor, Tensor] | None:
    """Make the rotation for latents [B, F, C, H, W]: (cos, sin), or None for a model without (the 2b)."""
    # the module of a whole pipeline, with its text encoder: not for those who sample with other backbones
    from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid

    config = transformer.config
    if not config.use_rotary_positional_embeddings:
        return None
    grid = (latents.shape[3] // config.patch_size, latents.shape[4] // config.patch_size)
    base = (config.sample_width // config.patch_size, config.sample_height // config.patch_size)
    region, frames = get_resize_crop_region_for_grid(grid, *base), latents.shape[1]
    return get_3d_rotary_pos_embed(config.attention_head_dim, region, grid, frames, device=latents.device)
