"""PE-AV from a folder that transformers saved: both streams alone, in one space."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_clips import moving, tone
from feature_models import save_pe_av

from shared.perception.audio_video import AudioVideo
from shared.utils.errors import UserError


def test_both_streams_are_those_of_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = AudioVideo.load(save_pe_av(tmp_path / "pe", monkeypatch), batch=2)
    frames, sound = moving(3, size=(16, 16)), tone(0.5, rate=8000)
    videos, sounds = encoder.videos(np.stack([frames, frames[::-1]])), encoder.sounds([sound, -sound, sound[::-1]])
    assert videos.shape == (2, 16) and sounds.shape == (3, 16)
    with torch.inference_mode():
        pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float()[None] / 127.5 - 1
        both = encoder.model(input_values=torch.from_numpy(sound)[None, None], pixel_values_videos=pixels)
    for ours, wanted in ((videos[0], both.video_embeds[0]), (sounds[0], both.audio_embeds[0])):
        assert np.allclose(ours, torch.nn.functional.normalize(wanted, dim=0).numpy(), atol=1e-4)
    assert np.linalg.norm(videos, axis=1) == pytest.approx([1, 1], abs=1e-5)
    (tmp_path / "pe/video_preprocessor_config.json").write_text("{}")
    with pytest.raises(UserError, match="says no size, image_mean and image_std"):
        AudioVideo.load(tmp_path / "pe")


def test_another_folder_and_a_missing_package_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clap"}))
    with pytest.raises(UserError, match="type 'clap'; pe_audio_video is needed"):
        AudioVideo.load(tmp_path)
    if importlib.util.find_spec("timm") is None:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "pe_audio_video"}))
        with pytest.raises(UserError, match="timm"):
            AudioVideo.load(tmp_path)
