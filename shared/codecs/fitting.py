"""Fit the embedded codecs to clips, and measure on other clips what they lose."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shared.codecs.base import VideoCodec, tensor_to_frames
from shared.codecs.linear import LinearAudioCodec, LinearVideoCodec
from shared.codecs.picture_errors import PictureLoss, decibels, picture_loss
from shared.utils.errors import UserError
from shared.utils.files import replacing_folder
from shared.utils.rng import generator, numpy_generator

ENVELOPE_WINDOW = 0.02  # s
NOISES = 0.05, 0.1, 0.2
"""On the latents, in their standard deviations, when a video codec is measured."""
#: A data set, or a list: clips by number, each with `video`, `audio`, `has_video` and `has_audio`.
Samples = Any


def fit_linear_codecs(
    samples: Samples, clips: int = 256, sample_rate: int = 16000, seed: int = 0, stride: int = 8
) -> tuple[LinearVideoCodec, LinearAudioCodec]:
    """Fit both codecs to at most `clips` clips chosen by `seed`; one clip is in memory at a time. `stride`: pixels to a
    latent."""
    chosen = numpy_generator(seed, "codec clips").permutation(len(samples))[:clips].tolist()
    video_codec = LinearVideoCodec.fit(_streams(samples, chosen, "video"), spatial_stride=stride)
    return video_codec, LinearAudioCodec.fit(_streams(samples, chosen, "audio"), sample_rate=sample_rate)


def pictures_of(samples: Samples, numbers: Iterable[int]) -> list[Tensor]:
    """Frames uint8 [T, H, W, 3] of clips, all in memory: 12 kB a frame of 64x64."""
    return [tensor_to_frames(video)[0] for video in _streams(samples, numbers, "video")]


def measure_codecs(
    samples: Samples, numbers: Sequence[int], video_codec: VideoCodec, audio_codec: LinearAudioCodec
) -> dict[str, float]:
    """Measure what is lost on the clips `numbers`. Of the video, in dB (peak 2): means of `psnr` over clips, its
    `psnr_lowest`, `psnr_moving` of all pixels that move; and `border_jump`, the error's step across the borders of
    cells over that elsewhere; the first and the last two also where noise of NOISES lies on the latents, as on those
    that a model makes. Of the sound, means over clips: absolute `mel_error` and `level_error` in dB and the
    `envelope_correlation` of loudness in 20 ms windows."""
    losses: dict[float, list[PictureLoss]] = {noise: [] for noise in (0.0, *NOISES)}
    for number, video in enumerate(_streams(samples, numbers, "video")):
        for noise, of_noise in losses.items():
            of_noise.append(_picture_losses(video_codec, video, noise, number))
    found: dict[str, float] = {}
    for noise, of_noise in losses.items():
        if of_noise:
            measured = _of_pictures(of_noise)
            found |= measured if not noise else {
                f"{name}, noise {noise:g}": value for name, value in measured.items() if name != "psnr_lowest"
            }  # fmt: skip
    sound = [_sound_errors(audio_codec, audio) for audio in _streams(samples, numbers, "audio")]
    return found | ({name: sum(errors[name] for errors in sound) / len(sound) for name in sound[0]} if sound else {})


def measured_table(samples: Samples, pair: tuple[VideoCodec, Any], beside: tuple[VideoCodec, Any]) -> str:
    """Make lines of what `measure_codecs` finds of a pair on all samples, beside another pair where that differs."""
    numbers = range(len(samples))
    measured = measure_codecs(samples, numbers, *pair)
    other = measured if pair == beside else measure_codecs(samples, numbers, *beside)
    return "\n".join(
        f"  {name.replace('_', ' '):24s}{value:8.3f}"
        + (f"   linear {other[name]:8.3f}" if other[name] != value else "")
        for name, value in measured.items()
    )


def save_codecs(folder: Path, video_codec: Any, audio_codec: LinearAudioCodec) -> None:
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


def _streams(samples: Samples, numbers: Iterable[int], stream: str) -> Iterator[Tensor]:
    chosen = map(samples.__getitem__, numbers)
    return (getattr(sample, stream)[None] for sample in chosen if getattr(sample, f"has_{stream}"))


def _picture_losses(codec: VideoCodec, video: Tensor, noise: float, number: int) -> PictureLoss:
    latents = codec.encode(video)
    if noise:
        latents = latents + noise * torch.randn(latents.shape, generator=generator(0, "codec noise measured", number))
    return picture_loss(video, codec.decode(latents, video.shape[2]), codec.spatial_stride)


def _of_pictures(losses: list[PictureLoss]) -> dict[str, float]:
    """Measures of the clips' losses, as `measure_codecs` names them."""
    total = PictureLoss(*map(sum, zip(*losses, strict=True)))
    psnr = [decibels(loss.square / loss.pixels) for loss in losses]
    found = {"psnr": sum(psnr) / len(psnr), "psnr_lowest": min(psnr)}
    if total.moving:
        found["psnr_moving"] = decibels(total.moving_square / total.moving)
    if total.inside:
        found["border_jump"] = total.across / total.inside
    return found


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
