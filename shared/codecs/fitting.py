"""Fit the linear codecs to clips, and measure on other clips what they lose."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shared.codecs.linear import LinearAudioCodec, LinearVideoCodec
from shared.utils.errors import UserError
from shared.utils.files import replacing_folder
from shared.utils.rng import numpy_generator

ENVELOPE_WINDOW = 0.02  # s
#: A data set, or a list: clips by number, each with `video`, `audio`, `has_video` and `has_audio`.
Samples = Any


def fit_linear_codecs(
    samples: Samples, clips: int = 256, sample_rate: int = 16000, seed: int = 0
) -> tuple[LinearVideoCodec, LinearAudioCodec]:
    """Fit both codecs to at most `clips` clips chosen by `seed`; one clip is in memory at a time."""
    chosen = numpy_generator(seed, "codec clips").permutation(len(samples))[:clips].tolist()
    video_codec = LinearVideoCodec.fit(_streams(samples, chosen, "video"))
    return video_codec, LinearAudioCodec.fit(_streams(samples, chosen, "audio"), sample_rate=sample_rate)


def measure_codecs(
    samples: Samples, numbers: Sequence[int], video_codec: LinearVideoCodec, audio_codec: LinearAudioCodec
) -> dict[str, float]:
    """Means over the clips `numbers`: `psnr` and `psnr_lowest` of the video in dB (peak 2), and of the sound the mean
    absolute `mel_error` and `level_error` in dB and the `envelope_correlation` of loudness in 20 ms windows."""
    psnr = []
    for video in _streams(samples, numbers, "video"):
        error = video_codec.decode(video_codec.encode(video), video.shape[2]) - video
        psnr.append(float(10 * torch.log10(4 / error.square().mean().clamp_min(1e-10))))
    sound = [_sound_errors(audio_codec, audio) for audio in _streams(samples, numbers, "audio")]
    means = {name: sum(errors[name] for errors in sound) / len(sound) for name in sound[0]} if sound else {}
    return ({"psnr": sum(psnr) / len(psnr), "psnr_lowest": min(psnr)} if psnr else {}) | means


def save_codecs(folder: Path, video_codec: LinearVideoCodec, audio_codec: LinearAudioCodec) -> None:
    """Write FOLDER/video_codec and FOLDER/audio_codec, complete or not at all: both together where the folder is new,
    else one after the other. UserError if one exists."""
    codecs = {"video_codec": video_codec, "audio_codec": audio_codec}
    if there := [folder / name for name in codecs if (folder / name).exists()]:
        raise UserError(f"{there[0]} exists already; give another folder or remove it")
    if not folder.exists():
        with replacing_folder(folder) as partial:
            for name, codec in codecs.items():
                codec.save_pretrained(partial / name)
        return
    for name, codec in codecs.items():
        with replacing_folder(folder / name) as partial:
            codec.save_pretrained(partial)


def _streams(samples: Samples, numbers: Sequence[int], stream: str) -> Iterator[Tensor]:
    chosen = map(samples.__getitem__, numbers)
    return (getattr(sample, stream)[None] for sample in chosen if getattr(sample, f"has_{stream}"))


def _sound_errors(codec: LinearAudioCodec, audio: Tensor) -> dict[str, float]:
    decoded = codec.decode(codec.encode(audio), audio.shape[-1])
    width = round(ENVELOPE_WINDOW * codec.sample_rate)
    pair = torch.cat([audio, decoded])[:, 0]
    loudness = pair.unfold(-1, width, width // 2).square().mean(-1).sqrt()
    total = pair.square().mean(-1).clamp_min(1e-10)
    decibels_per_level = -codec.config.floor_db / 2
    return {
        "mel_error": float((codec.levels(decoded) - codec.levels(audio)).abs().mean() * decibels_per_level),
        "level_error": float(10 * torch.log10(total[1] / total[0]).abs()),
        "envelope_correlation": float(torch.corrcoef(loudness).nan_to_num()[0, 1]),
    }
