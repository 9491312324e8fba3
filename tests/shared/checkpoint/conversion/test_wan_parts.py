"""Wan's own VAE and T5 files, from the pickle on: what diffusers and transformers load computes the same to the bit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan
from public import randomise
from safetensors.torch import save_file
from torch import Tensor
from transformers import T5Tokenizer, UMT5Config, UMT5EncoderModel

from scripts.convert import main
from shared.checkpoint.conversion.wan_parts import MEAN_22, STD_22, recognise
from shared.checkpoint.registry import find_component, load_component
from shared.utils.errors import UserError
from shared.utils.rng import generator

VAE_22: dict[str, Any] = {
    "base_dim": 4, "decoder_base_dim": 8, "z_dim": 48, "is_residual": True, "patch_size": 2, "in_channels": 12,
    "out_channels": 12, "scale_factor_spatial": 16, "latents_mean": list(MEAN_22), "latents_std": list(STD_22),
}  # fmt: skip
#: Published names of the two autoencoders, written out: diffusers' -> Wan's.
LEAVES = {"norm1": "residual.0", "conv1": "residual.2", "norm2": "residual.3", "conv2": "residual.6"}
LEAVES |= {"conv_shortcut": "shortcut"}
ENDS = {"conv_in": "conv1", "norm_out": "head.0", "conv_out": "head.2", "mid_block.attentions.0": "middle.1"}
T5 = {
    r"layer\.0\.SelfAttention\.relative_attention_bias": "pos_embedding.embedding",
    r"layer\.0\.SelfAttention": "attn", r"layer\.0\.layer_norm": "norm1", r"layer\.1\.layer_norm": "norm2",
    r"layer\.1\.DenseReluDense\.wi_0": "ffn.gate.0", r"layer\.1\.DenseReluDense\.wi_1": "ffn.fc1",
    r"layer\.1\.DenseReluDense\.wo": "ffn.fc2", r"^encoder\.block\.": "blocks.",
    r"^encoder\.final_layer_norm": "norm", r"^shared": "token_embedding",
}  # fmt: skip


def wans_vae_name(name: str, grouped: bool) -> str:
    name = re.sub("^quant_conv", "conv1", re.sub("^post_quant_conv", "conv2", name))
    for ours, theirs in (LEAVES | ENDS).items():  # in this order: conv_in becomes conv1
        name = name.replace(f".{ours}.", f".{theirs}.")
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"middle.{2 * int(m[1])}", name)
    if grouped:
        name = re.sub(r"(down|up)_blocks\.(\d)\.resnets\.(\d)", r"\1samples.\2.\1samples.\3", name)
        name = re.sub(r"down_blocks\.(\d)\.downsampler", r"downsamples.\1.downsamples.2", name)
        return re.sub(r"up_blocks\.(\d)\.upsampler", r"upsamples.\1.upsamples.3", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"upsamples.{4 * int(m[1]) + int(m[2])}", name)
    name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"upsamples.{4 * int(m[1]) + 3}", name)
    return name.replace("down_blocks", "downsamples")


def wans_t5_name(name: str) -> str:
    for ours, theirs in T5.items():
        name = re.sub(ours, theirs, name)
    return name


def unpickled(folder: Path, tensors: dict[str, Tensor], capsys: pytest.CaptureFixture[str]) -> Path:
    """The safetensors step, which says what the file holds."""
    torch.save(tensors, folder / "part.pth")
    main(["to-safetensors", "--source", str(folder / "part.pth"), "--output", str(folder / "part.safetensors")])
    assert f"{recognise(tensors)}: `scripts/convert.py part --source" in capsys.readouterr().out
    return folder / "part.safetensors"


@pytest.mark.parametrize("sizes", [{"base_dim": 4}, VAE_22], ids=["2.1", "2.2"])
@torch.no_grad()
def test_wans_own_vae_is_diffusers_autoencoder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sizes: dict[str, Any]
) -> None:
    model = AutoencoderKLWan(**sizes).eval()
    randomise(model)
    tensors = {wans_vae_name(name, "patch_size" in sizes): value for name, value in model.state_dict().items()}
    source = unpickled(tmp_path, tensors, capsys)
    main(["part", "--source", str(source), "--output", str(tmp_path / "vae")])
    kind = "Wan2.2's VAE" if "patch_size" in sizes else "Wan2.1's VAE"
    assert f"{source}: {kind}, as AutoencoderKLWan" in capsys.readouterr().out
    found = AutoencoderKLWan.from_pretrained(tmp_path / "vae")
    assert {key: found.config[key] for key in model.config if key[0] != "_"} == {
        key: value for key, value in model.config.items() if key[0] != "_"
    }
    theirs = model.state_dict()
    assert {name: value.shape for name, value in found.state_dict().items()} == {n: v.shape for n, v in theirs.items()}
    assert all(torch.equal(value, theirs[name]) for name, value in found.state_dict().items())
    codec = load_component(find_component("video_codec", tmp_path / "vae"))
    video = torch.rand(1, 3, 1, 16, 16, generator=generator(0, "test", "video"))
    assert codec.encode(video).shape == (
        1,
        model.config.z_dim,
        1,
        16 // codec.spatial_stride,
        16 // codec.spatial_stride,
    )


@torch.no_grad()
def test_wans_own_t5_is_transformers_umt5(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = UMT5EncoderModel(UMT5Config(vocab_size=20, d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=4)).eval()
    randomise(model)
    saved = {name: value for name, value in model.state_dict().items() if "embed_tokens" not in name}
    source = unpickled(tmp_path, {wans_t5_name(name): value for name, value in saved.items()}, capsys)
    words = ["part", "--source", str(source), "--output", str(tmp_path / "t5")]
    with pytest.raises(UserError, match=r"no tokenizer\.json or spiece\.model in .*google/umt5-xxl; Wan's T5 needs"):
        main(words)
    vocabulary = [(token, 0.0) for token in ("<pad>", "</s>", "<unk>")] + [(word, -2.0) for word in "▁abcdefgh"]
    T5Tokenizer(vocab=vocabulary, extra_ids=0).save_pretrained(tmp_path / "google/umt5-xxl")
    main(words)
    text = load_component(find_component("text_encoder", tmp_path / "t5"))
    ids = torch.tensor([text._tokens("a bad cafe")])
    torch.testing.assert_close(
        text.encode(["a bad cafe"])[0, : ids.shape[1]], model(ids).last_hidden_state[0], rtol=0, atol=0
    )
    theirs = UMT5EncoderModel.from_pretrained(tmp_path / "t5")
    assert torch.equal(theirs(ids).last_hidden_state, model(ids).last_hidden_state)


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    save_file({"x": torch.ones(1)}, tmp_path / "x.safetensors")
    sign = {"decoder.middle.0.residual.0.gamma": torch.ones(4, 1, 1, 1)}
    save_file(sign, tmp_path / "torn.safetensors")
    strange = {"encoder.conv1.weight": torch.ones(4, 3, 3, 3, 3), "conv2.weight": torch.ones(16, 16, 1, 1, 1)}
    save_file(sign | strange | {"decoder.upsamples.x.y": torch.ones(1)}, tmp_path / "strange.safetensors")
    save_file(sign | strange | {"conv2.weight": torch.ones(8, 8, 1, 1, 1)}, tmp_path / "other.safetensors")
    (tmp_path / "x.pth").write_bytes(b"no pickle")
    for name, said in (
        ("x.safetensors", "1 tensor \\(x\\); one of Wan2.2's VAE, Wan2.1's VAE, Wan's T5 is needed"),
        ("torn.safetensors", "encoder.conv1.weight is missing; copy the file again"),
        ("strange.safetensors", "has names that no VAE of Wan's has"),
        ("other.safetensors", "Wan2.1's VAE with 8 latent channels; 16 are needed"),
        ("x.pth", "turn it into safetensors first"),
    ):
        with pytest.raises(UserError, match=said):
            main(["part", "--source", str(tmp_path / name), "--output", str(tmp_path / "out")])
        assert not (tmp_path / "out").exists()
