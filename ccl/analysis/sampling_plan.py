"""Memory that a sample needs, by level of `--memory` and type of the weights: components and passes without values.

Codecs and text encoder are those that the width of the latents and of the text belong to: Wan's autoencoders (16 and 48
channels), LTX-2's of sound (128), UMT5-XXL (4096); others, the embedded ones, weigh next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ccl.analysis.gpu_model import in_precision
from ccl.analysis.memory_estimate import LatentSizes, LiveBytes, MemoryUse, Products
from ccl.routing import Task
from ccl.training.meta_run import MetaModels, layers_of
from shared.codecs.linear import LinearAudioCodec, LinearVideoCodec
from shared.utils.config import TrainConfig

#: Arguments of `AutoencoderKLWan` beside its defaults, by channels.
WAN: dict[int, dict[str, Any]] = {
    16: {},
    48: {"base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "is_residual": True, "patch_size": 2, "in_channels": 12,
         "out_channels": 12, "scale_factor_spatial": 16, "latents_mean": [0.0] * 48, "latents_std": [1.0] * 48},
}  # fmt: skip
UMT5_XXL = {"vocab_size": 256384, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64}


class Part(NamedTuple):
    """A component: bytes of its weights, of the largest layer, and of what one use of it allocates."""

    weights: int
    layer: int = 0
    use: int = 0


def video_codec(channels: int) -> Any:
    """Make the codec of so many channels, without values."""
    if channels not in WAN:
        return LinearVideoCodec(latent_channels=channels)
    from diffusers import AutoencoderKLWan

    from shared.codecs.wan import WanVideoCodec

    with torch.device("meta"):
        model = AutoencoderKLWan(**WAN[channels])
    return WanVideoCodec(model)


def audio_codec(channels: int) -> Any:
    """Make the codec of so many channels, without values."""
    if channels != 128:
        return LinearAudioCodec(latent_channels=channels)
    from diffusers import AutoencoderKLLTX2Audio
    from diffusers.pipelines.ltx2 import LTX2Vocoder

    with torch.device("meta"):
        return nn.ModuleList([AutoencoderKLLTX2Audio(), LTX2Vocoder()])


def text_encoder(width: int) -> nn.Module:
    """Make the encoder of so wide embeddings, without values; the embedded one has none."""
    if width != UMT5_XXL["d_model"]:
        return nn.Module()
    from transformers import UMT5Config, UMT5EncoderModel

    with torch.device("meta"):
        return UMT5EncoderModel(UMT5Config(**UMT5_XXL))


def plan_sampling(
    config: TrainConfig, components: Any, sizes: LatentSizes, level: str, dtype: torch.dtype
) -> list[MemoryUse]:
    """List what a sample of one clip keeps at its peak on GPU and host, with `pipeline.set_memory(level)` on a GPU."""
    config = config.model_copy(update={"lora": None, "distill": None})
    video = video_codec(components.codecs.video.latent_channels)
    parts = {
        "text encoder": _part(text_encoder(components.text.dim), dtype),
        "transformer": _denoiser(config, components, sizes, level, dtype),
        "video codec": _part(video, dtype, _decoding(video, sizes, level, dtype)),
        "audio codec": _part(audio_codec(components.codecs.audio.latent_channels), dtype),
    }
    weights = {name: part.weights for name, part in parts.items()}
    most = max(parts, key=lambda name: parts[name].use)
    if level == "fast":
        rows = [MemoryUse(name, size) for name, size in weights.items()]
        return [*rows, MemoryUse(f"at the peak, in the {most}", parts[most].use)]
    if level == "balanced":
        most = max(parts, key=lambda name: parts[name].weights + parts[name].use)
        rows = [MemoryUse(name, *((size, 0) if name == most else (0, size))) for name, size in weights.items()]
        return [*rows, MemoryUse(f"at the peak, in the {most}", parts[most].use)]
    layered = ("text encoder", "transformer")
    need = {name: part.use + (part.layer if name in layered else part.weights) for name, part in parts.items()}
    most = max(need, key=lambda name: need[name])
    rows = [MemoryUse(name, 0, size) for name, size in weights.items()]
    return [*rows, MemoryUse(f"at the peak, in the {most}", need[most])]


def _part(model: Any, dtype: torch.dtype, use: int = 0) -> Part:
    """Weigh a frozen component in `dtype`."""
    layers = [sum(p.numel() for p in module.parameters(recurse=False)) for module in model.modules()]
    sizes = sum(p.numel() for p in model.parameters())
    return Part(sizes * dtype.itemsize, max(layers, default=0) * dtype.itemsize, use)


def _denoiser(config: TrainConfig, components: Any, sizes: LatentSizes, level: str, dtype: torch.dtype) -> Part:
    """Weigh the transformer, with the control network where there is one, and run a pass."""
    layers, every = layers_of(config)
    whole = _stored(MetaModels(config, components, layers), level, dtype)
    few = MetaModels(config, components, 2 * every)  # without gradients no block adds to the peak
    for model in filter(None, (few.transformer, few.control)):
        in_precision(model, dtype)
    video, audio = (
        replace(one, latents=one.latents.to(dtype), text=one.text.to(dtype)) for one in sizes.inputs(few.transformer, 1)
    )
    task = Task.T2AV if config.trains("t2av", "t2v", "t2a", "a2v", "v2a", "part") else Task.MTV
    use = _peak(lambda: few.loss(task, video, audio))
    values, held = max(m.weight.numel() for m in whole.modules() if isinstance(m, nn.Linear)), 0
    if level == "low":  # the layer that runs, in fp8 and as it is computed with, and what is no layer's
        held = sum(
            p.nbytes for m in whole.modules() if not isinstance(m, nn.Linear | nn.Conv3d | nn.Conv1d | nn.Embedding)
            for p in m.parameters(recurse=False)
        )  # fmt: skip
    size = sum(p.nbytes for p in whole.parameters())
    return Part(size, held + values * (1 + dtype.itemsize), use)


def _stored(models: MetaModels, level: str, dtype: torch.dtype) -> MetaModels:
    """Give the weights the types that they are kept in."""
    for model in filter(None, (models.transformer, models.control)):
        in_precision(model, dtype)
        if level == "low":
            model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=dtype)
    return models


def _decoding(codec: Any, sizes: LatentSizes, level: str, dtype: torch.dtype) -> int:
    """Count what decoding a clip allocates. `low` decodes tile by tile, and keeps their pixels to blend them."""
    library, shape = getattr(codec, "model", None), (sizes.height, sizes.width)
    if library is None:
        frames = 1 + (sizes.frames - 1) * sizes.temporal_stride
        latents = torch.zeros(1, codec.latent_channels, sizes.frames, *shape)
        return _peak(lambda: codec.decode(latents, frames), "cpu")
    for parameter in library.parameters():  # there is no autocast on the meta device, so the library's own decoding
        parameter.data = parameter.data.to(dtype)
    stride, pixels = codec.spatial_stride, 0
    if level == "low":
        pixels = dtype.itemsize * 3 * (sizes.frames * sizes.temporal_stride) * shape[0] * shape[1] * stride**2
        tile = library.tile_sample_min_height // stride, library.tile_sample_min_width // stride
        shape = min(shape[0], tile[0]), min(shape[1], tile[1])

    def peak(frames: int) -> int:
        latents = torch.empty(1, codec.latent_channels, frames, *shape, device="meta", dtype=dtype)
        return _peak(lambda: library.decode(latents, return_dict=False)[0].float())

    few, more = (peak(min(frames, sizes.frames)) for frames in (3, 4))  # each further latent adds its pixels
    return few + max(0, sizes.frames - 3) * (more - few) + pixels


def _peak(run: Callable[[], Tensor], device: str = "meta") -> int:
    """Count the most bytes that a call without gradients allocates."""
    with torch.no_grad(), Products(None), LiveBytes(device) as live:
        run()
    return live.peak
