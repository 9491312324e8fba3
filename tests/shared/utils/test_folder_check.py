"""A folder of weights against its config, for our models and those of diffusers and transformers."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan, AutoencoderOobleck, FlowMatchEulerDiscreteScheduler
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import ASTConfig, ASTModel, UMT5Config, UMT5EncoderModel, UMT5Model

from ccl.transformer import DualStreamTransformer
from shared.codecs import LinearVideoCodec
from shared.codecs.oobleck import OobleckAudioCodec
from shared.encoders import HashedWords
from shared.utils.errors import UserError
from shared.utils.folder_check import check_folder
from tests.helpers.small import transformer

T5: dict[str, Any] = {"vocab_size": 40, "d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 2, "num_heads": 4}
VAE = {"base_dim": 4, "z_dim": 2, "num_res_blocks": 1, "latents_mean": [0.0, 0.5], "latents_std": [1.0, 2.0]}
AST = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16, "max_length": 32}
#: By name: the class that reads it, and what makes it.
KINDS: dict[str, tuple[Any, Callable[[], Any]]] = {
    "ours": (DualStreamTransformer, transformer),
    "diffusers": (AutoencoderKLWan, lambda: AutoencoderKLWan(**VAE)),
    "transformers": (UMT5EncoderModel, lambda: UMT5EncoderModel(UMT5Config(**T5))),
    "renamed": (ASTModel, lambda: ASTModel(ASTConfig(num_mel_bins=32, **AST))),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kinds")
    for name, (_, make) in KINDS.items():
        make().save_pretrained(root / name)
    return root


def copied(source: Path, target: Path, config: dict[str, Any] | None = None) -> Path:
    target.mkdir()
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    about = json.loads((source / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(about | (config or {})))
    return target


@pytest.mark.parametrize("name", KINDS)
def test_what_was_saved_is_right(saved: Path, name: str) -> None:
    state = torch.random.get_rng_state()
    check_folder(KINDS[name][0], saved / name)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("name", "config", "said"),
    [
        ("ours", {"cca_heads": 10**9}, "cca_heads = 1000000000; at most 1048576 can be"),
        (
            "ours",
            {"context_tokens": 7},
            r"context.* is \[2, 24\], and config\.json makes it \[7, 24\] by context_tokens = 7",
        ),
        ("ours", {"cca_heads": "2"}, "cca_heads = '2'; a whole number is needed"),
        ("ours", {"evil": 1}, "has an unknown key, evil; known are video, audio"),
        ("ours", {"centre": "evil"}, "centre is 'evil'; choose one of exact, paper"),
        ("ours", {"_class_name": "LinearVideoCodec"}, "DualStreamTransformer is needed"),
        ("diffusers", {"base_dim": 8}, "by base_dim = 8"),
        (
            "diffusers",
            {"num_res_blocks": 10**6},
            "asks for far more (modules|parameters) than .*: num_res_blocks = 1000000",
        ),
        ("diffusers", {"dim_mult": "x"}, "dim_mult = 'x'; a list is needed"),
        ("diffusers", {"latents_mean": [None, 1.0]}, r"latents_mean = .*; a list like \["),
        ("diffusers", {"_class_name": "Evil"}, "has _class_name = 'Evil'; AutoencoderKLWan is needed"),
        ("transformers", {"d_model": 17}, r"by d_model = 17"),
        (
            "transformers",
            {"num_layers": 1000, "num_hidden_layers": 1000},
            "asks for far more (modules|parameters) than",
        ),
        ("transformers", {"d_model": "x"}, "'d_model' expected int, got str"),
        ("transformers", {"num_heads": -1}, "num_heads = -1; a count cannot be that"),
        ("transformers", {"num_layers": 1, "num_hidden_layers": 1}, r"do not belong \(encoder\.block\.1"),
        ("renamed", {"num_hidden_layers": 1}, "do not belong"),
        ("renamed", {"num_hidden_layers": 3}, r"are missing \(layers\.2"),
    ],
)
def test_a_config_of_another_model_is_refused_at_once(
    saved: Path, tmp_path: Path, name: str, config: dict[str, Any], said: str
) -> None:
    folder = copied(saved / name, tmp_path / "bad", config)
    start, memory = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=said):
        check_folder(KINDS[name][0], folder)
    assert time.process_time() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 200_000  # KB


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"shift": "3"}, "has shift = '3'; a number is needed"),
        ({"shift": float("nan")}, "is damaged"),
        ({"num_train_timesteps": 10**9}, "num_train_timesteps = 1000000000; at most 1048576 can be"),
        ({"num_train_timesteps": "many"}, "num_train_timesteps = 'many'; a whole number is needed"),
        ({"use_dynamic_shifting": "yes"}, "use_dynamic_shifting = 'yes'; true or false is needed"),
        ({"shift": 0.0}, "makes times that do not fall from 1000 to 0"),
        ({"shift": -1.0}, "makes times that do not fall from 1000 to 0"),
        ({"invert_sigmas": True}, "makes times that do not fall from 1000 to 0"),
        ({"use_dynamic_shifting": True}, "makes no FlowMatchEulerDiscreteScheduler .*mu"),
        ({"use_karras_sigmas": True, "use_beta_sigmas": True}, "makes no FlowMatchEulerDiscreteScheduler"),
        ({"_class_name": "DDIMScheduler"}, "_class_name = 'DDIMScheduler'; FlowMatchEulerDiscreteScheduler is needed"),
    ],
)
def test_a_scheduler_whose_config_is_of_another_is_refused(tmp_path: Path, config: dict[str, Any], said: str) -> None:
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(tmp_path)
    check_folder(FlowMatchEulerDiscreteScheduler, tmp_path, "here: scheduler/")
    file = tmp_path / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    with pytest.raises(UserError, match=rf"^here: scheduler/scheduler_config\.json .*{said}"):
        check_folder(FlowMatchEulerDiscreteScheduler, tmp_path, "here: scheduler/")


def without(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: value for key, value in tensors.items() if key != name}


@pytest.mark.parametrize("name", KINDS)
def test_weights_of_another_model_are_refused(saved: Path, tmp_path: Path, name: str) -> None:
    folder = copied(saved / name, tmp_path / "bad")
    (file,) = folder.glob("*.safetensors")
    tensors = load_file(file)
    victim = next(key for key, value in tensors.items() if value.ndim > 1 and value.shape[0] != value.shape[1])
    value = tensors[victim]
    for changed, said in (
        (without(tensors, victim), "are missing"),
        (without(tensors, victim) | {victim + "x": value}, "another name|are missing|do not belong"),
        (
            tensors | {victim: value.permute(*reversed(range(value.ndim))).contiguous()},
            r"and config\.json makes it .*transposed",
        ),
        (tensors | {victim: value.long()}, "in I64; .* is needed"),
        (tensors | {victim: value.to(torch.float8_e4m3fn)}, "in F8_E4M3; .* is needed"),
        ({}, "are missing"),
    ):
        save_file(changed, file, metadata={"format": "pt"})
        with pytest.raises(UserError, match=said):
            check_folder(KINDS[name][0], folder)
    save_file(tensors, file, metadata={"format": "pt"})
    check_folder(KINDS[name][0], folder)
    file.rename(file.with_suffix(".bin"))
    with pytest.raises(UserError, match=r"\.safetensors is missing"):
        check_folder(KINDS[name][0], folder)


def test_the_rest_of_a_larger_model_may_lie_beside_it(tmp_path: Path) -> None:
    UMT5Model(UMT5Config(**T5)).save_pretrained(tmp_path)
    check_folder(UMT5EncoderModel, tmp_path)
    encoder = UMT5EncoderModel.from_pretrained(tmp_path, use_safetensors=True)
    assert all(value.isfinite().all() and value.any() for value in encoder.shared.parameters())
    (tmp_path / "lone").mkdir()
    encoder.save_pretrained(tmp_path / "lone")
    with pytest.raises(UserError, match=r"missing|is needed"):
        check_folder(UMT5Model, tmp_path / "lone")


def test_every_from_pretrained_looks_first(tmp_path: Path) -> None:
    for kind in (LinearVideoCodec, HashedWords):
        kind().save_pretrained(tmp_path / kind.__name__)
        folder = copied(tmp_path / kind.__name__, tmp_path / f"{kind.__name__}.bad", {"evil": 1})
        with pytest.raises(UserError, match="has an unknown key, evil"):
            kind.from_pretrained(folder)
    small = {"encoder_hidden_size": 4, "downsampling_ratios": [2], "channel_multiples": [1], "decoder_channels": 4}
    AutoencoderOobleck(decoder_input_channels=4, **small).save_pretrained(tmp_path / "vae")
    folder = copied(tmp_path / "vae", tmp_path / "vae.bad", {"decoder_input_channels": 6})
    with pytest.raises(UserError, match="by decoder_input_channels = 6"):
        OobleckAudioCodec.from_pretrained(folder)
