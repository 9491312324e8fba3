"""Embedders of voices: the same voice lies nearer than another; what is not there is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from perception import need_model, prompts, spoken_lines
from torchaudio.functional import resample

from shared.data.media import read_audio
from shared.perception import speakers
from shared.perception.pitch import HOP, RATE
from shared.perception.speakers import KINDS, MODEL, NetworkEmbedder, PitchEmbedder, Resemblyzer, loud, speaker_embedder
from shared.perception.turns import diarise, speaker_error
from shared.utils.errors import UserError

TINY = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
    "conv_dim": (8, 8), "conv_kernel": (10, 8), "conv_stride": (20, 16), "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2, "tdnn_dim": (8, 8, 8, 8, 12),
    "tdnn_kernel": (5, 3, 3, 1, 1), "tdnn_dilation": (1, 2, 3, 1, 1), "xvector_output_dim": 12,
}  # fmt: skip


def tone(hertz: float, seconds: float = 0.5) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.1 * np.sum([np.sin(2 * np.pi * k * hertz * time) / k for k in range(1, 9)], axis=0)).astype(np.float32)


def x_vectors(folder: Path, kind: str = "WavLM") -> Path:
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}ForXVector")(getattr(transformers, f"{kind}Config")(**TINY))
    model.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False).save_pretrained(folder)
    return folder


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the place of Silero's detector: it hears speech in all that is loud."""

    def probability(sound: np.ndarray) -> np.ndarray:
        frames = loud(sound).repeat(HOP)[: len(sound)].astype(np.float64)
        return np.array([frames[at : at + speakers.STEP].mean() for at in range(0, len(frames), speakers.STEP)])

    monkeypatch.setattr(speakers, "speech_probability", probability)


def test_pitch_is_in_octaves_and_unknown_where_there_is_none() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(RATE // 2).astype(np.float32)
    sound = np.concatenate([tone(110), tone(220), noise])
    low, high, none = PitchEmbedder().embed(sound, [(0, 50), (50, 100), (110, 140)])[:, 0]
    assert (low, high) == (pytest.approx(np.log2(110), abs=0.02), pytest.approx(np.log2(220), abs=0.02))
    assert np.isnan(none) or none > 0


def test_clean_sound_is_speech_where_it_is_loud() -> None:
    sound = np.concatenate([np.zeros(RATE // 2), tone(110), 0.01 * tone(110), np.zeros(RATE // 2)]).astype(np.float32)
    found = loud(sound)
    assert len(found) == 200 and found[52:98].all() and not found[:48].any() and not found[102:].any()
    assert not loud(np.full(RATE, 1e-4, np.float32)).any() and loud(np.zeros(0, np.float32)).shape == (0,)


@pytest.mark.parametrize("kind", KINDS)
def test_x_vectors_of_a_folder_are_those_of_transformers(kind: str, tmp_path: Path, heard: None) -> None:
    embedder = speaker_embedder(str(x_vectors(tmp_path, kind)))
    sound = np.concatenate([tone(110), tone(220)])
    found = embedder.embed(sound, [(0, 50), (50, 100), (0, 10)])
    assert found.shape == (3, 12) and np.linalg.norm(found, axis=1) == pytest.approx(1)
    model = getattr(transformers, f"{kind}ForXVector").from_pretrained(tmp_path).eval()
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(tmp_path)
    with torch.no_grad():
        given = extractor([sound[: RATE // 2]], sampling_rate=RATE, return_tensors="pt")
        wanted = torch.nn.functional.normalize(model(**given).embeddings[0], dim=0)
    assert found[0] == pytest.approx(wanted.numpy(), abs=1e-5)
    assert embedder.active(np.concatenate([sound, 0 * sound]))[[10, 90, 110, 190]].tolist() == [
        True,
        True,
        False,
        False,
    ]


def test_folders_that_are_no_network_of_x_vectors_are_refused(tmp_path: Path, heard: None) -> None:
    with pytest.raises(UserError, match="embedder nowhere: is unknown; give pitch, resemblyzer, or a folder of"):
        speaker_embedder("nowhere")
    folder = x_vectors(tmp_path / "a")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["WavLMModel"]}))
    with pytest.raises(UserError, match="holds WavLMModel; a folder of transformers with safetensors"):
        speaker_embedder(str(folder))
    folder = x_vectors(tmp_path / "b")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=str(folder)):
        speaker_embedder(str(folder))
    folder = x_vectors(tmp_path / "c")
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(folder)
    with pytest.raises(UserError, match="hears 8000 Hz; one of 16000 Hz is needed"):
        speaker_embedder(str(folder))


def test_resemblyzer_raises_quiet_sound_and_leaves_loud_sound() -> None:
    torch.manual_seed(0)
    network = NetworkEmbedder(Resemblyzer().eval(), 0.5)

    def vector(scale: float) -> np.ndarray:
        return network.embed(scale * tone(110, 1.0), [(0, 100)])[0]

    assert vector(0.01) == pytest.approx(vector(0.1), abs=1e-5)
    assert not np.allclose(vector(1.0), vector(3.0), atol=1e-4)
    assert np.isfinite(vector(0.0)).all()


def telephone(file: Path) -> np.ndarray:
    narrow = resample(torch.from_numpy(read_audio(file, 8000)[0]), 8000, RATE).numpy()
    return (0.06 / np.sqrt(np.square(narrow).mean()) * narrow).astype(np.float32)


@pytest.mark.slow
def test_two_people_who_read_in_turns_are_told_apart() -> None:
    """LibriVox lines and telephone prompts; both in telephone quality and equally loud."""
    need_model(MODEL, "silero_vad")
    need_model("", "onnxruntime")
    embedder = speaker_embedder("resemblyzer")
    people = ([*spoken_lines()][:3], prompts()[:3])
    parts, rows, at = [], [], 0
    for first, second in zip(*people, strict=True):
        for row, file in enumerate((first, second)):
            sound = telephone(file)
            parts += [np.zeros(RATE // 2, np.float32), sound]
            rows.append((row, at + RATE // 2, at + RATE // 2 + len(sound)))
            at += RATE // 2 + len(sound)
    sound = np.concatenate(parts)
    true = np.zeros((2, -(-at // HOP)), bool)
    for row, first_sample, end in rows:
        true[row, first_sample // HOP : end // HOP] = True
    turns = diarise(sound, 2, embedder)
    wrong, frames = speaker_error(true & embedder.active(sound), turns.active)
    assert len(turns.active) == 2 and wrong / frames < 0.15
