"""Wan's autoencoders as a codec, from small random models that diffusers saved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler
from safetensors.torch import load_file, save_file
from torch import Tensor

from ccl.pipeline import CCLPipeline
from ccl.transformer import DualStreamTransformer
from shared.checkpoint.folder import load_checkpoint, save_checkpoint
from shared.codecs import LinearAudioCodec, VideoCodec
from shared.codecs.wan import WanVideoCodec
from shared.encoders import HashedWords
from shared.utils.errors import UserError
from shared.utils.rng import derive, generator

COMMIT = "0123456789abcdef" * 2 + "01234567"
SMALL = {
    "base_dim": 4,
    "num_res_blocks": 1,
    "z_dim": 4,
    "latents_mean": [0.1, -0.2, 0.3, 0],
    "latents_std": [2, 1, 3, 4],
}
CONFIGS = {
    "2.1": {**SMALL, "dim_mult": [1, 1, 2, 2]},
    "2.2": {
        **SMALL,
        "dim_mult": [1, 1, 2, 2],
        "decoder_base_dim": 8,
        "is_residual": True,
        "patch_size": 2,
        "in_channels": 12,
        "out_channels": 12,
        "scale_factor_spatial": 16,
    },
}
FULL = {
    "2.1": {},
    "2.2": {
        "base_dim": 160,
        "decoder_base_dim": 256,
        "z_dim": 48,
        "latents_mean": [0.0] * 48,
        "latents_std": [1.0] * 48,
        "is_residual": True,
        "patch_size": 2,
        "in_channels": 12,
        "out_channels": 12,
        "scale_factor_spatial": 16,
    },
}


@pytest.fixture(scope="module", params=list(CONFIGS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wan") / "vae"
    with torch.random.fork_rng():
        torch.manual_seed(derive(0, "test", "wan"))
        AutoencoderKLWan(**CONFIGS[request.param]).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def codec(folder: Path) -> WanVideoCodec:
    return WanVideoCodec.from_pretrained(folder)


def clip(codec: WanVideoCodec, frames: int, batch: int = 1) -> Tensor:
    shape = (batch, 3, frames, codec.spatial_stride, 2 * codec.spatial_stride)
    return torch.rand(shape, generator=generator(0, "test", "clip")) * 2 - 1


@torch.no_grad()
def test_it_returns_the_librarys_own_output(folder: Path, codec: WanVideoCodec) -> None:
    own, video = AutoencoderKLWan.from_pretrained(folder), clip(codec, 9, batch=2)
    mean, std = (torch.tensor(own.config[name])[:, None, None, None] for name in ("latents_mean", "latents_std"))
    latents = (own.encode(video).latent_dist.mode() - mean) / std
    torch.testing.assert_close(codec.encode(video), latents, atol=1e-5, rtol=0)
    torch.testing.assert_close(codec.decode(latents, 9), own.decode(latents * std + mean).sample, atol=1e-5, rtol=0)
    assert isinstance(codec, VideoCodec)
    assert not codec.train().training and not any(weight.requires_grad for weight in codec.parameters())


@pytest.mark.parametrize(("frames", "count"), [(1, 1), (2, 2), (5, 2), (6, 3)])
def test_the_clock_is_causal_and_the_tail_repeats_the_last_frame(codec: WanVideoCodec, frames: int, count: int) -> None:
    video = clip(codec, 9)
    latents = codec.encode(video[:, :, :frames])
    assert latents.shape == (1, 4, count, 1, 2) and latents.dtype == torch.float32
    assert codec.latent_frames(frames) == len(codec.clock(frames, 16.0)) == count
    assert codec.clock(frames, 16.0).ends == tuple((4 * i + 1) / 16 for i in range(count))
    padded = torch.cat([video[:, :, :frames], video[:, :, frames - 1 : frames].repeat(1, 1, 8, 1, 1)], 2)
    whole = 1 + 4 * (count - 1)
    assert torch.equal(latents, codec.encode(padded[:, :, :whole]))
    decoded = codec.decode(latents, whole)
    assert decoded.shape[2] == whole and decoded.abs().max() <= 1
    assert torch.equal(codec.decode(latents, frames), decoded[:, :, :frames])


def test_latents_see_no_later_frame(codec: WanVideoCodec) -> None:
    video = clip(codec, 9)
    changed = video.clone()
    changed[:, :, 5:] = 0
    moved = (codec.encode(video) - codec.encode(changed)).abs().amax((0, 1, 3, 4))
    assert (moved[:2] == 0).all() and moved[2] > 0


def test_what_does_not_fit_is_refused(codec: WanVideoCodec) -> None:
    side = codec.spatial_stride
    with pytest.raises(UserError, match=rf"{side}x{side + 1} pixels; both sides must be multiples of {side}"):
        codec.encode(torch.zeros(1, 3, 1, side, side + 1))
    with pytest.raises(UserError, match="2 video latents cannot be decoded to 6 frames"):
        codec.decode(torch.zeros(1, 4, 2, 1, 1), 6)


def test_the_checkpoints_folder_is_the_librarys_own(codec: WanVideoCodec, folder: Path, tmp_path: Path) -> None:
    stream = {"num_attention_heads": 1, "attention_head_dim": 12, "num_layers": 1, "ffn_dim": 16, "in_channels": 4}
    stream |= {"text_dim": 8}
    model = DualStreamTransformer(video=stream, audio=stream, cca_heads=1, cca_head_dim=12, context_tokens=2)
    solvers = (FlowMatchEulerDiscreteScheduler(), FlowMatchEulerDiscreteScheduler())
    parts = (model, codec, LinearAudioCodec(latent_channels=4), HashedWords(dim=8), *solvers)
    save_checkpoint(CCLPipeline(*parts), tmp_path / "checkpoint", "a card")
    index = json.loads((tmp_path / "checkpoint/model_index.json").read_text())
    assert index["video_codec"] == ["shared.codecs.wan", "WanVideoCodec"]
    own = AutoencoderKLWan.from_pretrained(tmp_path / "checkpoint/video_codec")
    first = AutoencoderKLWan.from_pretrained(folder)
    assert dict(own.config) | {"_name_or_path": ""} == dict(first.config) | {"_name_or_path": ""}
    assert all(torch.equal(weight, first.state_dict()[name]) for name, weight in own.state_dict().items())
    video = clip(codec, 5)
    loaded = load_checkpoint(CCLPipeline, tmp_path / "checkpoint").video_codec
    assert torch.equal(loaded.encode(video), codec.encode(video))
    half = load_checkpoint(CCLPipeline, tmp_path / "checkpoint", torch.bfloat16).video_codec
    assert half.dtype == torch.bfloat16
    assert half.encode(video).dtype == half.decode(codec.encode(video), 5).dtype == torch.float32
    torch.testing.assert_close(half.encode(video), codec.encode(video), atol=0.1, rtol=0.1)


def test_low_memory_slices_the_batch_and_tiles_large_frames(folder: Path) -> None:
    codec = WanVideoCodec.from_pretrained(folder)
    video = clip(codec, 5, batch=2).repeat_interleave(2, 3)
    whole = codec.encode(video)
    codec.low_memory()
    torch.testing.assert_close(codec.encode(video), whole, atol=1e-5, rtol=0)
    sizes: list[int] = []
    spy = codec.model.encoder.register_forward_hook(lambda _, inputs, __: sizes.append(inputs[0].shape[-1]))
    codec.model.enable_tiling(*[codec.spatial_stride] * 4)  # the tiles are 256 pixels, too large for a quick test
    tiled = codec.encode(video)
    assert max(sizes) <= codec.spatial_stride and tiled.shape == whole.shape
    assert codec.decode(whole, 5).shape == video.shape
    codec.low_memory(False)
    sizes.clear()
    assert torch.equal(codec.encode(video), whole)
    assert max(sizes) > codec.spatial_stride // (codec.model.config.patch_size or 1)
    spy.remove()


@pytest.mark.parametrize(("name", "numbers", "weights"), [("2.1", (16, 4, 8), 126.9), ("2.2", (48, 4, 16), 704.7)])
def test_full_size(name: str, numbers: tuple[int, int, int], weights: float) -> None:
    with torch.device("meta"):
        model = AutoencoderKLWan(**FULL[name])
    codec = WanVideoCodec(model)
    assert (codec.latent_channels, codec.temporal_stride, codec.spatial_stride) == numbers
    assert codec.num_parameters() / 1e6 == pytest.approx(weights, abs=0.1)


def test_a_pipelines_folder_and_the_hubs_cache_work_offline(folder: Path, codec: WanVideoCodec, tmp_path: Path) -> None:
    video = clip(codec, 1)
    shutil.copytree(folder, tmp_path / "pipeline/vae")
    assert torch.equal(WanVideoCodec.from_pretrained(tmp_path / "pipeline").encode(video), codec.encode(video))
    cached = tmp_path / "hub/models--someone--wan"
    shutil.copytree(folder, cached / "snapshots" / COMMIT / "vae")
    (cached / "refs").mkdir()
    (cached / "refs/main").write_text(COMMIT)
    found = WanVideoCodec.from_pretrained("someone/wan", cache_dir=tmp_path / "hub")
    assert torch.equal(found.encode(video), codec.encode(video))
    with pytest.raises(UserError, match="someone/else: no AutoencoderKLWan"):
        WanVideoCodec.from_pretrained("someone/else", cache_dir=tmp_path / "hub")


def test_what_is_no_wan_autoencoder_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing: no such folder; a folder in which diffusers saved AutoencoderKLWan"):
        WanVideoCodec.from_pretrained(tmp_path / "missing")
    with pytest.raises(UserError, match=r"no AutoencoderKLWan \(.*config\.json"):
        WanVideoCodec.from_pretrained(tmp_path)
    LinearAudioCodec().save_pretrained(tmp_path / "linear")
    with pytest.raises(UserError, match="holds LinearAudioCodec, not AutoencoderKLWan"):
        WanVideoCodec.from_pretrained(tmp_path / "linear")
    shutil.copytree(folder, tmp_path / "wan")
    told = json.loads((folder / "config.json").read_text())

    def with_config(**changes: object) -> None:
        (tmp_path / "wan/config.json").write_text(json.dumps(told | changes))
        WanVideoCodec.from_pretrained(tmp_path / "wan")

    with pytest.raises(UserError, match=r"wan: latents_std has 3 values for z_dim = 4"):
        with_config(latents_std=[1, 2, 3])
    with pytest.raises(UserError, match="scale_factor_temporal and scale_factor_spatial are 8 and"):
        with_config(scale_factor_temporal=8)
    with pytest.raises(
        UserError, match=r"encoder\.conv_in\.weight is .*, and config\.json makes it .* by base_dim = 8"
    ):
        with_config(base_dim=8)
    weights = tmp_path / "wan/diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    save_file({name: tensor for name, tensor in tensors.items() if name != "quant_conv.bias"}, weights)
    with pytest.raises(UserError, match=r"weights of AutoencoderKLWan are missing \(quant_conv\.bias"):
        with_config()
    save_file(tensors | {"more": torch.zeros(1)}, weights)
    with pytest.raises(UserError, match=r"weights of AutoencoderKLWan do not belong \(more"):
        with_config()
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"wan: diffusion_pytorch_model\.safetensors is damaged"):
        with_config()
    weights.unlink()
    with pytest.raises(UserError, match=r"wan: diffusion_pytorch_model\.safetensors is missing"):
        with_config()
