"""CLAP from a folder: windows that cover a sound, the same each time; the library's own numbers for one window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_clips import ArrayMedia, tone
from feature_models import save_clap

from shared.perception.audio_text import AudioText
from shared.utils.errors import UserError


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> AudioText:
    return AudioText.load(save_clap(tmp_path_factory.mktemp("models") / "clap"), batch=2)


def test_windows_cover_a_sound(encoder: AudioText) -> None:
    assert encoder.window == 4000 and encoder.rate == 8000
    sound = np.arange(10000, dtype=np.float32)
    windows = encoder.windows(sound)
    assert [len(window) for window in windows] == [4000] * 3
    assert windows[0][0] == 0 and windows[-1][-1] == 9999 and windows[1][0] == 3000
    assert len(encoder.windows(sound[:4000])) == 1 and len(encoder.windows(sound[:100])[0]) == 100


def test_one_window_is_what_the_library_makes_of_it(encoder: AudioText) -> None:
    sound = tone(0.5, rate=8000)
    given = encoder.extractor([sound], sampling_rate=8000, return_tensors="pt")
    wanted = encoder.model.get_audio_features(**given).pooler_output.detach().numpy()
    assert np.allclose(encoder.sound(sound), wanted, atol=1e-5)
    longer = np.concatenate([sound, tone(1.0, 900, rate=8000)])
    assert encoder.sound(longer).shape == (3, 6) and np.array_equal(encoder.sound(longer), encoder.sound(longer))
    assert np.allclose(encoder.sound(longer)[0], wanted[0], atol=1e-4)


def test_text_and_what_is_kept(encoder: AudioText, monkeypatch: pytest.MonkeyPatch) -> None:
    assert np.linalg.norm(encoder.text("abell")) == pytest.approx(1, abs=1e-5)
    media, asked = ArrayMedia(sound=tone(0.5, rate=8000), rate=8000), []
    monkeypatch.setattr(encoder, "sound", lambda sound: asked.append(len(sound)) or np.zeros((1, 6)))
    encoder.of_clip(media)
    encoder.of_clip(media)
    assert asked == [4000] and encoder.preprocessing()["window"] == 0.5 and torch.is_tensor(encoder.model.logit_scale_a)


def test_what_is_no_clap_is_refused(tmp_path: Path) -> None:
    folder = save_clap(tmp_path / "clap")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(UserError, match="no CLAP"):
        AudioText.load(folder)
