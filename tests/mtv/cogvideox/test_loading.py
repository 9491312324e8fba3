"""A CogVideoX folder of diffusers: what is none is refused by its configurations, and the parts of one are loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import CogVideoXDPMScheduler
from small_cogvideox import noise, save_folder

from mtv.cogvideox.hooks import CogVideoXDenoiser
from mtv.cogvideox.loading import (
    check_cogvideox,
    load_codec,
    load_scheduler,
    load_text_encoder,
    load_transformer,
)
from shared.utils.errors import UserError

SIDE = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cogvideox")
    save_folder(folder / "cogvideox", CogVideoXDPMScheduler(prediction_type="v_prediction"))
    return folder


def test_the_parts_are_those_that_were_saved(folder: Path) -> None:
    scheduler, text = load_scheduler(folder / "cogvideox"), load_text_encoder(folder / "cogvideox")
    assert type(scheduler) is CogVideoXDPMScheduler and scheduler.config.prediction_type == "v_prediction"
    assert (text.dim, text.max_length) == (12, 8)  # the length is the transformer's
    codec = load_codec(folder / "cogvideox")
    assert codec.latent_channels == 4
    with pytest.raises(UserError, match=r"transformer/config\.json cannot be read"):
        load_text_encoder(folder)


def test_the_denoiser_is_the_folders_own_prediction(folder: Path) -> None:
    model = load_transformer(folder / "cogvideox").eval()
    latents, sigma = noise("latents", 2, 4, 3, 4, 4), torch.tensor([[0.5, 0, 0.5], [0.25, 0.25, 0.25]])
    with torch.no_grad():
        found = CogVideoXDenoiser(model).denoise_video(latents, sigma, noise("text", 2, 8, 12), None, lambda i, x: x)
    assert found.shape == latents.shape and found.std() > 0.01


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("transformer", {"_class_name": "WanTransformer3DModel"}, "transformer is 'WanTransformer3DModel'"),
        ("transformer", {"patch_size_t": 2}, "joins 2 latents in a token"),
        ("transformer", {"in_channels": 8}, "takes 8 channels and makes 4, the autoencoder has 4"),
        ("transformer", {"text_embed_dim": 20}, "reads text of 20 values, the text encoder makes 12"),
        ("scheduler", {"_class_name": "DDIMScheduler"}, "scheduler is 'DDIMScheduler', not CogVideoXDDIM"),
        ("scheduler", {"prediction_type": "sample"}, "prediction_type of the scheduler is 'sample'"),
        ("vae", {"_class_name": "AutoencoderKLWan"}, "vae is 'AutoencoderKLWan'"),
        ("text_encoder", {"model_type": "umt5"}, "text_encoder is 'umt5', not t5"),
        ("text_encoder", None, "text_encoder/config.json cannot be read"),
    ],
)
def test_what_is_no_such_folder_is_refused(folder: Path, tmp_path: Path, file, changes, message) -> None:
    for part in ("transformer", "scheduler", "vae", "text_encoder"):
        name = "scheduler_config.json" if part == "scheduler" else "config.json"
        told = json.loads((folder / "cogvideox" / part / name).read_text())
        (tmp_path / part).mkdir()
        if part != file or changes is not None:
            (tmp_path / part / name).write_text(json.dumps(told | (changes if part == file else {})))
    check_cogvideox(folder / "cogvideox", (SIDE, SIDE))
    with pytest.raises(UserError, match=message):
        check_cogvideox(tmp_path)
