"""AST features from a tiny random model that transformers saved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

from shared.encoders.audio import AudioFeatures, audio_features
from shared.encoders.spectrogram_transformer import SpectrogramFeatures
from shared.utils.rng import derive, generator

RATE = 16000


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> SpectrogramFeatures:
    """AST in small: segments of 1.28 s (12 patches in time, 3 in frequency), 2 layers of width 16."""
    path: Path = tmp_path_factory.mktemp("ast")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    with torch.random.fork_rng():
        torch.manual_seed(derive(0, "test", "ast"))
        ASTModel(ASTConfig(**sizes, max_length=128, num_mel_bins=40)).save_pretrained(path)
    ASTFeatureExtractor(max_length=128, num_mel_bins=40).save_pretrained(path)
    made = audio_features(f"ast:{path}")
    assert isinstance(made, SpectrogramFeatures)
    return made


def noise(samples: int, gain: float = 0.1) -> Tensor:
    return gain * torch.randn(1, 1, samples, generator=generator(0, "test", "ast"))


@pytest.mark.parametrize("fps", [24.0, 25.0, 30.0])
@pytest.mark.parametrize("samples", [301, 20001, 52345])
def test_documented_shape(encoder: SpectrogramFeatures, fps: float, samples: int) -> None:
    frames = max(1, round(samples / RATE * fps))
    out = encoder.encode(noise(samples), frames, fps)
    assert isinstance(encoder, AudioFeatures)
    assert out.shape == (1, frames, encoder.window, encoder.layers, encoder.dim) == (1, frames, 5, 2, 16)
    assert out.dtype == torch.float32
    assert not out.requires_grad


def test_silent_tracks_are_zeros_and_batches_equal_their_clips(encoder: SpectrogramFeatures) -> None:
    batch = torch.cat([noise(25000), noise(25000, 0.001), torch.zeros(1, 1, 25000), noise(25000, 0.3)])
    out = encoder.encode(batch, 38, 24.0)
    assert (out[1:3] == 0).all()
    for clip, row in zip(batch, out, strict=True):
        torch.testing.assert_close(row, encoder.encode(clip[None], 38, 24.0)[0], atol=1e-5, rtol=0)


def test_patches_are_on_time_across_segments(encoder: SpectrogramFeatures, monkeypatch: pytest.MonkeyPatch) -> None:
    """With states that are the mean level of each patch, a burst must show at its own time, in any segment."""

    def levels(values: Tensor) -> Tensor:
        patches = values.unfold(1, 16, 10).mean(-1)[..., :30].unflatten(-1, (3, 10)).mean(-1)  # [b, 12, 3]
        tokens = torch.cat([patches.new_full((len(values), 2), 99.0), patches.transpose(1, 2).flatten(1)], 1)
        return tokens[:, None, :, None].expand(-1, 2, -1, 16)

    monkeypatch.setattr(encoder, "_hidden_states", levels)
    for time in (0.5, 1.2, 1.25, 2.9, 3.7):
        sound = torch.zeros(1, 1, 5 * RATE)
        first = round((time - 0.03) * RATE)
        sound[..., first : first + 960] += noise(960, 0.9)[0, 0]
        row = encoder.encode(sound, 125, 25.0)[0, :100, 2, 0, 0]  # not the end, where AST pads
        weights = (row - row.median()).clamp_min(0)
        centre = (weights * torch.arange(100) / 25).sum() / weights.sum()
        assert centre == pytest.approx(time, abs=0.05)


def test_rows_are_layer_outputs_averaged_over_frequency(encoder: SpectrogramFeatures) -> None:
    sound = noise(1400 + 3 * 1600)
    # patch 2 is centred on sample 1400 + 2 * 1600 = 4600, the time of frame 1 at this frame rate
    found = encoder.encode(sound, 2, RATE / 4600)[0, 1, 2]
    padded = torch.nn.functional.pad(sound, (0, 2 * 4600 - sound.shape[-1]))
    values = encoder.preprocessor(padded[0, 0].numpy(), sampling_rate=RATE, return_tensors="pt")["input_values"]
    states = encoder.model(values, output_hidden_states=True).hidden_states
    expected = [state[0, 2:].reshape(3, 12, 16).mean(0)[2] for state in states[1:]]
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=1e-4)


def test_save_and_load(encoder: SpectrogramFeatures, tmp_path: Path) -> None:
    encoder.save_pretrained(tmp_path)
    loaded = SpectrogramFeatures.from_pretrained(tmp_path)
    assert not loaded.train().model.training
    assert torch.equal(loaded.encode(noise(20000), 30, 24.0), encoder.encode(noise(20000), 30, 24.0))
