"""Fitting both codecs to samples, and what is measured on others."""

from __future__ import annotations

import pytest
import torch

from shared.codecs import LinearAudioCodec, LinearVideoCodec
from shared.codecs.fitting import fit_linear_codecs, measure_codecs, save_codecs
from shared.data.dataset import Sample
from shared.utils.errors import UserError
from shared.utils.rng import generator


def make_sample(index: int, has_video: bool = True, has_audio: bool = True) -> Sample:
    """Smooth random colours and a hum of random loudness, half a second."""
    draw = torch.rand(6, generator=generator(0, "sample", index))
    video = (2 * draw[:3] - 1)[:, None, None, None] * torch.linspace(0.2, 1, 16).expand(3, 9, 16, 16)
    time = torch.arange(8000) / 16000
    audio = draw[3] * torch.sin(2 * torch.pi * (200 + 400 * draw[4]) * time) * torch.sin(8 * time).abs()
    return Sample(str(index), video, audio[None], "", "", has_video, has_audio)


def test_fit_and_measure_on_held_out_samples() -> None:
    samples = [make_sample(i) for i in range(40)]
    video, audio = fit_linear_codecs(samples[:32])
    measured = measure_codecs(samples, range(32, 40), video, audio)
    assert measured["psnr"] > 35
    assert measured["psnr_lowest"] <= measured["psnr"]
    by_noise = [measured["psnr"], *(measured[f"psnr, noise {noise}"] for noise in (0.05, 0.1, 0.2))]
    assert by_noise == sorted(by_noise, reverse=True)
    assert by_noise[-1] < by_noise[1] - 6  # four times the noise
    assert measured["mel_error"] < 3
    assert measured["level_error"] < 1
    assert measured["envelope_correlation"] > 0.9


def test_samples_without_a_stream_do_not_count_for_it() -> None:
    mixed = [make_sample(0), make_sample(1, has_video=False), make_sample(2, has_audio=False)]
    video, audio = fit_linear_codecs(mixed)
    torch.testing.assert_close(video.mean, fit_linear_codecs([mixed[0], mixed[2]])[0].mean)
    torch.testing.assert_close(audio.mean, fit_linear_codecs(mixed[:2])[1].mean)
    assert "psnr" not in measure_codecs(mixed, [1], video, audio)
    with pytest.raises(UserError, match="no clips"):
        fit_linear_codecs([mixed[1]])


def test_save_is_complete_and_never_overwrites(tmp_path) -> None:
    save_codecs(tmp_path, LinearVideoCodec(), LinearAudioCodec())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audio_codec", "video_codec"]
    assert LinearAudioCodec.from_pretrained(tmp_path / "audio_codec").latent_channels == 64
    with pytest.raises(UserError, match="exists already"):
        save_codecs(tmp_path, LinearVideoCodec(), LinearAudioCodec())


def test_a_pair_in_a_new_folder_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    """A run that is killed between the two fits them again; half a pair would be refused."""

    def killed(codec, folder):
        assert (folder.parent / "video_codec").is_dir()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(LinearAudioCodec, "save_pretrained", killed)
        save_codecs(tmp_path / "new", LinearVideoCodec(), LinearAudioCodec())
    assert not list(tmp_path.iterdir())
    save_codecs(tmp_path / "new", LinearVideoCodec(), LinearAudioCodec())
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["audio_codec", "video_codec"]
