"""One decoded clip into what the shards keep of it: latents, and features of its tracks."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from shared.codecs.base import Codecs, VideoCodec, keyframe_latents
from shared.data.dataset import Sample
from shared.utils.errors import UserError
from shared.utils.finite import is_finite
from shared.utils.rng import numpy_generator

#: Tensors of a record, by member ("latents", "texts", "tracks") and name.
Members = dict[str, dict[str, Tensor]]


@torch.no_grad()
def encode_clip(
    sample: Sample, codecs: Codecs, fps: float, device: torch.device, dtype: torch.dtype = torch.float32,
    keyframes: bool = False, features: Callable[[int], dict[str, Tensor]] | None = None,
    parts: Callable[[int], dict[str, Tensor]] | None = None,
) -> tuple[Members, dict[str, Any]]:  # fmt: skip
    """Tensors on the CPU, in `dtype`, and the facts of a record (`shared.data.shard_index.Record`).

    "latents": `video` [C, F, h, w], `audio` [A, C] and, with `keyframes`, `keyframe_latents` [C, F, h, w]; a stream
    that the clip lacks is the encoding of zeros. "tracks": what `features` makes for so many video frames. `parts`: the
    sounds [1, N] of tracks of so many video frames, whose latents [A, C] stand beside the mix's under their names. A
    clip that kept its own frame rate has that in the place of `fps`, and in its facts.
    Raises UserError if latents are not finite.
    """
    pixels = sample.video.to(device)
    video = codecs.video.encode(pixels[None])[0]
    audio = codecs.audio.encode(sample.audio[None].to(device))[0]
    if not (is_finite(video) and is_finite(audio)):
        raise UserError(f"clip {sample.id!r}: its latents are not finite; check the codecs")
    members = {"latents": {"video": video, "audio": audio}}
    if keyframes:
        members["latents"]["keyframe_latents"] = every_keyframe(codecs.video, sample.id, pixels, sample.fps or fps)
    frames = sample.video.shape[1]
    tracks = {} if parts is None else parts(frames)
    for name, sound in tracks.items():
        members["latents"][name] = codecs.audio.encode(sound[None].to(device))[0]
        if not is_finite(members["latents"][name]):
            raise UserError(f"clip {sample.id!r}: latents of its {name} are not finite; check the audio codec")
    if features is not None:
        members["tracks"] = features(frames)
        if bad := [name for name, values in members["tracks"].items() if not is_finite(values)]:
            raise UserError(f"clip {sample.id!r}: its features of {bad[0]} are not finite; check tracks.encoders")
    has_audio = sample.has_audio and not sample.why_silent
    facts = {"id": sample.id, "frames": frames, "samples": sample.audio.shape[1], "has_video": sample.has_video}
    facts |= {"has_audio": has_audio, "video": list(video.shape), "audio": list(audio.shape)}
    if sample.fps is not None:
        facts["fps"] = sample.fps
    facts |= {"parts": list(tracks)} if parts is not None else {}
    return {member: as_kept(tensors, dtype) for member, tensors in members.items()}, facts


def as_kept(tensors: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Tensors as a record holds them."""
    return {name: tensor.to("cpu", dtype).contiguous() for name, tensor in tensors.items()}


def every_keyframe(codec: VideoCodec, name: str, pixels: Tensor, fps: float) -> Tensor:
    """[C, F, h, w] of pixels [3, T, H, W]: of each latent one frame, drawn by the clip's name, as a keyframe."""
    clock = codec.clock(pixels.shape[1], fps)
    owner = clock.index(torch.arange(pixels.shape[1], dtype=torch.float64) / fps)
    draw = numpy_generator(0, "stills", name)
    frames = [int(draw.choice((owner == i).nonzero()[:, 0].numpy())) for i in range(len(clock))]
    images = pixels[:, frames].transpose(0, 1)
    parts = ((images[:1], True), (images[1:], False))
    latents = [keyframe_latents(codec, part, first=first) for part, first in parts if len(part)]
    return torch.cat(latents)[:, :, 0].transpose(0, 1)
