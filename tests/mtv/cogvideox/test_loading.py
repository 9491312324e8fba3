"""A CogVideoX folder of diffusers: what is none is refused by its configurations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from diffusers import CogVideoXDPMScheduler
from small_cogvideox import save_folder

from mtv.cogvideox.loading import check_cogvideox
from shared.utils.errors import UserError

SIDE = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cogvideox")
    save_folder(folder / "cogvideox", CogVideoXDPMScheduler(prediction_type="v_prediction"))
    return folder


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
    check_cogvideox(folder / "cogvideox", (SIDE, SIDE), learns_v=True)
    with pytest.raises(UserError, match=message):
        check_cogvideox(tmp_path)


def test_the_error_of_v_needs_a_folder_that_predicts_v(tmp_path: Path) -> None:
    save_folder(tmp_path / "cogvideox", CogVideoXDPMScheduler(prediction_type="epsilon"))
    check_cogvideox(tmp_path / "cogvideox")
    with pytest.raises(UserError, match=r"predicts epsilon, .* set diffusion_loss\.v to 0"):
        check_cogvideox(tmp_path / "cogvideox", learns_v=True)
