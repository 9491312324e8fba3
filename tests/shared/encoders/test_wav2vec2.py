"""wav2vec2 features from a tiny random model that transformers saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from shared.encoders.audio import AudioFeatures, audio_features
from shared.encoders.wav2vec2 import MTVCraftWav2Vec2, Wav2Vec2Features
from shared.utils.errors import UserError
from shared.utils.rng import derive, generator

RATE = 16000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base-960h in small: the same strides (320 samples in all), 3 layers of width 16."""
    path = tmp_path_factory.mktemp("wav2vec2")
    config = Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(derive(0, "test", "wav2vec2"))
        Wav2Vec2Model(config).save_pretrained(path)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Wav2Vec2Features:
    return Wav2Vec2Features.from_transformers(str(folder))


def noise(samples: int, gain: float = 0.1, name: str = "noise") -> Tensor:
    return gain * torch.randn(1, 1, samples, generator=generator(0, "test", name))


@pytest.mark.parametrize("fps", [24.0, 25.0, 30.0])
@pytest.mark.parametrize("samples", [301, 16000, 23457])
def test_documented_shape(encoder: Wav2Vec2Features, fps: float, samples: int) -> None:
    frames = max(1, round(samples / RATE * fps))
    out = encoder.encode(noise(samples), frames, fps)
    assert isinstance(encoder, AudioFeatures)
    assert (encoder.sample_rate, encoder.window, encoder.layers, encoder.dim) == (RATE, 5, 3, 16)
    assert out.shape == (1, frames, 5, 3, 16)
    assert out.dtype == torch.float32
    assert not out.requires_grad
    assert (out[:, :, 2] != 0).any(-1).all()


def test_interpolation_is_before_the_transformer_and_on_time(encoder: Wav2Vec2Features) -> None:
    seen: dict[str, Tensor] = {}
    model, sound = encoder.model, noise(RATE)
    spies = [
        model.feature_projection.register_forward_pre_hook(lambda _, inputs: seen.update(projected=inputs[0])),
        model.encoder.register_forward_pre_hook(lambda _, inputs: seen.update(attended=inputs[0])),
    ]
    encoder.encode(sound, 24, 24.0)
    for spy in spies:
        spy.remove()
    assert seen["attended"].shape[1] == 24
    features = model.feature_extractor((sound[:, 0] - sound.mean()) / (sound.var(correction=0) + 1e-7).sqrt())[0]
    assert features.shape[1] == 49  # untouched once the encoder is done
    # feature i sees samples 320 i .. 320 i + 399; frame k is at sample k / 24 * 16000
    times = np.arange(24) / 24
    expected = [np.interp(times, (320 * np.arange(49) + 200) / RATE, channel.numpy()) for channel in features]
    found = seen["projected"][0].T
    torch.testing.assert_close(found, torch.tensor(np.stack(expected), dtype=torch.float32), atol=1e-4, rtol=1e-4)


def test_the_rows_are_the_outputs_of_all_layers(encoder: Wav2Vec2Features) -> None:
    outputs: list[Tensor] = []
    spies = [
        layer.register_forward_hook(lambda _, __, out: outputs.append(out)) for layer in encoder.model.encoder.layers
    ]
    found = encoder.encode(noise(8000), 12, 24.0)
    for spy in spies:
        spy.remove()
    tensors = [out[0] if isinstance(out, tuple) else out for out in outputs]
    torch.testing.assert_close(found[:, :, 2], torch.stack(tensors, 2))
    torch.testing.assert_close(found[:, 3:, 0], found[:, 1:-2, 2])
    assert (found[:, 0, :2] == 0).all()


def test_silent_tracks_are_zeros_and_batches_equal_their_clips(encoder: Wav2Vec2Features) -> None:
    batch = torch.cat([noise(9999), noise(9999, 0.001), torch.zeros(1, 1, 9999), noise(9999, 0.5, "other")])
    out = encoder.encode(batch, 15, 24.0)
    assert (out[1:3] == 0).all()
    for clip, row in zip(batch, out, strict=True):
        torch.testing.assert_close(row, encoder.encode(clip[None], 15, 24.0)[0], atol=1e-5, rtol=0)


def test_normalisation_is_what_the_preprocessor_says(encoder: Wav2Vec2Features, folder: Path, tmp_path: Path) -> None:
    sound = noise(8000)
    torch.testing.assert_close(encoder.encode(sound, 12, 24.0), encoder.encode(4 * sound, 12, 24.0), atol=1e-3, rtol=0)
    for part in folder.iterdir():
        (tmp_path / part.name).write_bytes(part.read_bytes())
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(tmp_path)
    Wav2Vec2Features.from_transformers(str(tmp_path)).save_pretrained(tmp_path / "ours")
    plain = Wav2Vec2Features.from_pretrained(tmp_path / "ours")
    seen: list[Tensor] = []
    plain.model.feature_extractor.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    plain.encode(sound, 12, 24.0)
    assert torch.equal(seen[0], sound[0])


def test_frozen_and_saved_like_every_component(encoder: Wav2Vec2Features, tmp_path: Path) -> None:
    assert not encoder.train().training and not encoder.model.training
    assert not any(weight.requires_grad for weight in encoder.parameters())
    encoder.save_pretrained(tmp_path)
    loaded = Wav2Vec2Features.from_pretrained(tmp_path)
    assert not loaded.model.training and not any(weight.requires_grad for weight in loaded.parameters())
    assert torch.equal(loaded.encode(noise(8000), 12, 24.0), encoder.encode(noise(8000), 12, 24.0))


def test_what_is_no_wav2vec2_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    assert isinstance(audio_features(f"wav2vec2:{folder}"), Wav2Vec2Features)
    with pytest.raises(UserError, match=r"missing: no such folder; a folder with config\.json"):
        audio_features(f"wav2vec2:{tmp_path / 'missing'}")
    with pytest.raises(UserError, match=r"nobody/nothing: no wav2vec2 model \(no config\.json there; no such"):
        audio_features("wav2vec2:nobody/nothing")
    with pytest.raises(UserError, match="'wav2vec2', not 'audio-spectrogram-transformer'"):
        audio_features(f"ast:{folder}")
    config = Wav2Vec2Config.from_pretrained(folder)
    config.num_hidden_layers = 4
    for part in folder.iterdir():
        (tmp_path / part.name).write_bytes(part.read_bytes())
    config.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"weights of Wav2Vec2Model are missing \(encoder\.layers\.3"):
        audio_features(f"wav2vec2:{tmp_path}")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
        audio_features(f"wav2vec2:{tmp_path}")
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(UserError, match=r"preprocessor_config\.json"):
        audio_features(f"wav2vec2:{tmp_path}")


def test_as_the_public_mtv_weights_were_trained(folder: Path) -> None:
    """Features are stretched so that both ends meet, windows repeat the ends, and silence is heard."""
    encoder, seen = MTVCraftWav2Vec2.from_transformers(str(folder)), {}
    spy = encoder.model.encoder.register_forward_pre_hook(lambda _, inputs: seen.update(attended=inputs[0]))
    sound = noise(RATE)
    out = encoder.encode(sound, 24, 24.0)
    spy.remove()
    values = (sound[:, 0] - sound.mean()) / (sound.var(correction=0) + 1e-7).sqrt()
    features = encoder.model.feature_extractor(values)
    stretched = torch.nn.functional.interpolate(features, size=24, mode="linear", align_corners=True)
    expected, _ = encoder.model.feature_projection(stretched.transpose(1, 2))
    torch.testing.assert_close(seen["attended"], expected, rtol=0, atol=1e-4)
    rows = out[0, :, 2]
    for frame in (0, 1, 10, 23):
        near = [rows[min(max(frame + reach, 0), 23)] for reach in range(-2, 3)]
        assert torch.equal(out[0, frame], torch.stack(near))
    assert encoder.encode(torch.zeros(1, 1, RATE), 24, 24.0).any()
