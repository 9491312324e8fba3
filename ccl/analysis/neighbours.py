"""Other joint models of diffusers at the size of ours, with random weights: what a step of theirs takes.

Widths, heads, feed-forward parts, depth and tokens are equal. What only theirs or only ours has stays as it is: CCA's
window against attention to all tokens, a quarter of the width against all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from diffusers import Kandinsky6Transformer3DModel, LTX2VideoTransformer3DModel, WanTransformer3DModel
from torch import Tensor, nn

from ccl.flops import Tokens
from shared.nn.dit import StreamConfig
from shared.utils.errors import UserError


class Size:
    """Streams of a joint model, and a clip as others take it: a grid of video tokens, tokens of sound and of text."""

    def __init__(
        self, config: Mapping[str, Any], grid: tuple[int, int, int], audio_tokens: int, text_tokens: int, batch: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:  # fmt: skip
        """`dtype`: of the latents and the text."""
        self.video = StreamConfig(**config["video"])
        self.audio = StreamConfig(**{"grid": "time", "patch_size": (1, 1, 1), **config["audio"]})
        frames, height, width = self.grid = grid
        self.tokens, self.batch = Tokens(frames, height * width, audio_tokens, text_tokens), batch
        self.dtype = dtype

    def noise(self, *shape: int) -> Tensor:
        """Of every clip."""
        return torch.randn(self.batch, *shape).to(self.dtype)

    @property
    def latents(self) -> tuple[int, int, int]:
        """F, H, W of the video latents."""
        frames, height, width = (n * p for n, p in zip(self.grid, self.video.patch_size, strict=True))
        return frames, height, width


Forward = Callable[[], tuple[Tensor, Tensor]]


def neighbour(name: str, size: Size, device: str) -> tuple[nn.Module, Forward]:
    """Build the model `name`, and its forward pass of one batch. UserError if it cannot be of this size."""
    torch.manual_seed(0)
    build = {"wan": two_wans, "ltx2": ltx2, "kandinsky6": kandinsky6}[name]
    with torch.device(device):
        return build(size)


def two_wans(size: Size) -> tuple[nn.Module, Forward]:
    """Two Wan towers that do not know of each other: the floor of what two streams take."""
    towers = nn.ModuleList()
    inputs = []
    shapes = (size.latents, (size.tokens.audio, 1, 1))
    for stream, latents in zip((size.video, size.audio), shapes, strict=True):
        towers.append(
            WanTransformer3DModel(
                patch_size=stream.patch_size, num_attention_heads=stream.num_attention_heads,
                attention_head_dim=stream.attention_head_dim, in_channels=stream.in_channels,
                out_channels=stream.in_channels, text_dim=stream.text_dim, freq_dim=stream.freq_dim,
                ffn_dim=stream.ffn_dim, num_layers=stream.num_layers,
                rope_max_seq_len=max(1024, *size.grid, size.tokens.audio),
            )
        )  # fmt: skip
        text = size.noise(size.tokens.text, stream.text_dim)
        inputs.append((size.noise(stream.in_channels, *latents), torch.full((size.batch,), 700.0), text))

    def forward() -> tuple[Tensor, Tensor]:
        video, audio = (tower(*given, return_dict=False)[0] for tower, given in zip(towers, inputs, strict=True))
        return video, audio

    return towers, forward


def ltx2(size: Size) -> tuple[nn.Module, Forward]:
    """LTX-2's transformer, whose streams read all of each other at the audio's width; its feed-forward factor is 4."""
    video, audio, tokens = size.video, size.audio, size.tokens
    for stream in (video, audio):
        if stream.ffn_dim != 4 * stream.width:
            raise UserError(f"--against ltx2: its feed-forward parts are 4 times its width, {4 * stream.width}, not "
                            f"{stream.ffn_dim}; leave it out, or take --ffn 4")  # fmt: skip
    model = LTX2VideoTransformer3DModel(
        in_channels=video.patch_values, out_channels=video.patch_values,
        num_attention_heads=video.num_attention_heads, attention_head_dim=video.attention_head_dim,
        cross_attention_dim=video.width, audio_in_channels=audio.in_channels, audio_out_channels=audio.in_channels,
        audio_num_attention_heads=audio.num_attention_heads, audio_attention_head_dim=audio.attention_head_dim,
        audio_cross_attention_dim=audio.width, num_layers=video.num_layers, caption_channels=video.text_dim,
        rope_type="split",
    )  # fmt: skip
    text = size.noise(tokens.text, video.text_dim)
    frames, height, width = size.grid
    given = {
        "hidden_states": size.noise(tokens.video, video.patch_values),
        "audio_hidden_states": size.noise(tokens.audio, audio.in_channels),
        "encoder_hidden_states": text, "audio_encoder_hidden_states": text.clone(),
        "timestep": torch.full((size.batch,), 700.0), "num_frames": frames, "height": height, "width": width,
        "audio_num_frames": tokens.audio, "return_dict": False,
    }  # fmt: skip
    return model, lambda: model(**given)


def kandinsky6(size: Size) -> tuple[nn.Module, Forward]:
    """Kandinsky 6's transformer as it is released (gates, rotary cross-attention), but for the blocks over the text
    alone, which ours has not."""
    video, audio, tokens = size.video, size.audio, size.tokens
    axes, audio_axes = (_axes(stream.attention_head_dim) for stream in (video, audio))
    model = Kandinsky6Transformer3DModel(
        in_visual_dim=video.in_channels, out_visual_dim=video.in_channels, in_text_dim=video.text_dim, in_text_dim2=768,
        time_dim=video.width, patch_size=video.patch_size, model_dim=video.width, ff_dim=video.ffn_dim,
        num_text_blocks=0, num_visual_blocks=video.num_layers, axes_dims=axes, visual_cond=False,
        in_audio_dim=audio.in_channels, out_audio_dim=audio.in_channels, model_dim_a=audio.width,
        time_dim_a=audio.width, ff_dim_a=audio.ffn_dim, axes_dims_a=audio_axes, ca_rope=axes == audio_axes,
        cross_gates=True, fix_modulation=True,
    )  # fmt: skip
    if tokens.audio > 2048 or max(size.grid) > 128:
        raise UserError(
            f"--against kandinsky6: its positions end at 128 per axis and 2048 audio tokens, before {size.grid}"
        )
    given = {
        "hidden_states": size.noise(*size.latents, video.in_channels),
        "audio_hidden_states": size.noise(tokens.audio, audio.in_channels),
        "encoder_hidden_states": size.noise(tokens.text, video.text_dim),
        "pooled_projections": size.noise(768), "timestep": torch.full((size.batch,), 700.0),
        "return_dict": False,
    }  # fmt: skip
    return model, lambda: model(**given)


def _axes(head_dim: int) -> tuple[int, int, int]:
    """Rotary values of time, rows and columns, as Wan parts a head."""
    side = 2 * (head_dim // 6)
    return head_dim - 2 * side, side, side
