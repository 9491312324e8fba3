"""Models of full size with random weights for `scripts/gpu.py`: made on the device, their inputs, the memory they take.

No value of theirs passes through the host: a model is laid out on the meta device and filled where it runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn

from ccl.analysis.memory_estimate import (
    LatentSizes,
    LiveBytes,
    Parameters,
    Products,
    Setting,
    activations,
    parameters,
    states,
)
from ccl.analysis.memory_report import model_config
from ccl.flops import Tokens, meta_inputs, on_meta
from ccl.routing import Task
from ccl.training.trial import Learns, choose_learning
from ccl.transformer import DualStreamTransformer, StreamInput
from shared.nn.clock import LatentClock

STD = 0.02  # of random weights


@dataclass(frozen=True)
class Case:
    """What is measured: a model, one clip's latents, the type of its weights, and how often."""

    config: Mapping[str, Any]
    sizes: LatentSizes
    weights: torch.dtype = torch.bfloat16
    products: torch.dtype | None = torch.bfloat16  # in training; None: as the weights are
    repeats: int = 3
    compiler: str = "inductor"
    name: str = ""

    @property
    def tokens(self) -> Tokens:
        """Of a clip, with the model's patches."""
        _, height, width = self.config["video"].get("patch_size", (1, 2, 2))
        return self.sizes.tokens((height, width))

    @property
    def clocks(self) -> tuple[LatentClock, LatentClock]:
        """Of video and audio."""
        sizes = self.sizes
        video = LatentClock.causal_video(sizes.frames, sizes.fps, sizes.temporal_stride)
        return video, LatentClock.at_rate(sizes.audio, sizes.audio_rate)

    @property
    def products_of_block(self) -> list[tuple[int, int, int]]:
        """Matrix products (m, k, n) that a block of the larger stream is made of."""
        stream = self.config["video"]
        width, inner = stream["num_attention_heads"] * stream["attention_head_dim"], stream["ffn_dim"]
        tokens = self.tokens.video
        return [(tokens, width, width), (tokens, width, inner), (tokens, inner, width)]


#: Ovi's clip: 5 s of 704x704 pixels at 24 fps, and its audio codec's tokens.
OVI_CLIP = LatentSizes(31, 44, 44, 157, 512, fps=24.0, temporal_stride=4, audio_rate=31.25)
WAN_CLIP = LatentSizes(21, 44, 80, 127, 512)  # 81 frames of 352x640 at 16 fps
TINY_CLIP = LatentSizes(3, 4, 8, 16, 5)
TINY: dict[str, Any] = {
    "video": {"in_channels": 4, "num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 2, "ffn_dim": 64,
              "text_dim": 12, "freq_dim": 32},
    "audio": {"in_channels": 5, "num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 2, "ffn_dim": 64,
              "text_dim": 12, "freq_dim": 32, "time_unit": 0.04},
    "cca_heads": 2, "cca_head_dim": 16, "context_tokens": 3,
}  # fmt: skip


def case(part: str, tiny: bool) -> Case:
    """Find what `part` measures: sampling, adapters, full, attention. `tiny`: the same on a model that a CPU runs."""
    if tiny:
        return Case(TINY, TINY_CLIP, torch.float32, None, 2, "eager", "tiny")
    large, small = model_config("wan2.2-5b-ovi"), model_config("wan2.1-1.3b")
    if part == "attention":
        short = replace(WAN_CLIP, frames=9, audio=52)
        return Case(at_depth(small, 2), short, repeats=5, name="wan2.1-1.3b, 2 blocks")
    if part == "full":
        return Case(small, WAN_CLIP, torch.float32, name="wan2.1-1.3b")
    return Case(large, OVI_CLIP, name="wan2.2-5b-ovi")


def at_depth(config: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """Give `config` with so many blocks."""
    return {**config, **{name: {**config[name], "num_layers": depth} for name in ("video", "audio")}}


def in_precision(model: DualStreamTransformer, dtype: torch.dtype) -> DualStreamTransformer:
    """Turn the weights to `dtype` as a checkpoint is loaded: what must stay in fp32 does."""
    kept = model._keep_in_fp32_modules
    for name, parameter in model.named_parameters():
        if not any(part in name.split(".") for part in kept):
            parameter.data = parameter.data.to(dtype)
    return model


def random_model(config: Mapping[str, Any], dtype: torch.dtype, device: torch.device) -> DualStreamTransformer:
    """Build a model on `device`: matrices are normal, of deviation `STD`, norms 1, biases 0; the same for each call."""
    model = in_precision(on_meta(config), dtype).to_empty(device=device)
    draw = torch.Generator(device).manual_seed(0)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=STD, generator=draw)
        else:
            nn.init.constant_(parameter, float(not name.endswith("bias")))
    return model.eval()


def random_inputs(model: DualStreamTransformer, of: Case, dtype: torch.dtype) -> tuple[StreamInput, StreamInput]:
    """Make one clip's noisy latents and texts on the model's device, the same for each call; sigma is .7."""
    latents = of.sizes.frames, of.sizes.height, of.sizes.width
    device, draw = model.device, torch.Generator(model.device).manual_seed(1)

    def filled(meta: StreamInput) -> StreamInput:
        given = [torch.randn(part.shape, device=device, generator=draw) for part in (meta.latents, meta.text)]
        sigma = torch.full(meta.sigma.shape, 0.7, device=device)
        return StreamInput(given[0].to(dtype), sigma, given[1].to(dtype), meta.clock)

    video, audio = meta_inputs(model, latents, of.sizes.audio, of.sizes.text, of.clocks)
    return filled(video), filled(audio)


def sampling_bytes(of: Case) -> int:
    """Forecast what a pass of t2av without gradients holds at its peak: weights, and what it allocates."""
    weights = sum(parameter.nbytes for parameter in in_precision(on_meta(of.config), of.weights).parameters())
    model = in_precision(on_meta(of.config, 2), of.weights)  # without gradients no block adds to the peak
    latents = of.sizes.frames, of.sizes.height, of.sizes.width
    given = meta_inputs(model, latents, of.sizes.audio, of.sizes.text, of.clocks)
    video, audio = (
        replace(stream, latents=stream.latents.to(of.weights), text=stream.text.to(of.weights)) for stream in given
    )
    with torch.no_grad(), Products(None), LiveBytes("meta") as live:
        model(Task.T2AV.route, video, audio)
    return weights + live.peak


def training_bytes(of: Case, learns: Learns) -> int:
    """Forecast what a step of `ccl.training.trial.Trial` holds at its peak: its state, and what a pass allocates."""
    precision: Literal["fp32", "bf16"] = "fp32" if of.products is None else "bf16"
    if learns == "all":
        kept = sum(use.gpu for use in states(parameters(of.config), Setting(0, 1, precision, ema=False)))
    else:
        model = in_precision(on_meta(of.config), of.weights)
        choose_learning(model, learns)
        weights, count = sum(parameter.nbytes for parameter in model.parameters()), Parameters.of(model)
        casts = 0 if of.products is None else of.products.itemsize * count.trained
        kept = weights + 12 * count.trained + casts  # gradients and two moments in fp32

    def prepare(model: DualStreamTransformer) -> None:
        choose_learning(in_precision(model, of.weights), learns)

    return kept + activations(of.config, of.sizes, precision=precision, checkpointing=True, prepare=prepare).peak


def all_adamw_bytes(config: Mapping[str, Any]) -> int:
    """Forecast what all of a model's weights learning with AdamW takes on one GPU, before any activation."""
    return sum(use.gpu for use in states(parameters(config), Setting(0, 1, "bf16", ema=False)))
