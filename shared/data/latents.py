"""One clip's latents, as a record of a shard holds them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import safetensors.torch
from torch import Tensor

from shared.data.clip_texts import ClipTexts, Pairs
from shared.data.shard_index import BrokenRecord, Record


@dataclass(frozen=True)
class Latents:
    """One clip: float32 `video` [C, F, h, w] and `audio` [A, C], of so many `frames` and `samples`.

    A stream that the clip lacks is the encoding of zeros, with its `has_` flag False. `keyframe_latents` [C, F, h, w]:
    latent i as a keyframe, the encoding of one of its frames repeated; None where the record has none. `fps`: the
    clip's own frame rate, where it kept that. `prompts` and `audio_prompts`: texts over time, as the manifest has them.
    `parts` [A, C]: of the speech and the effects, what sounds and the record has.
    """

    id: str
    video: Tensor
    audio: Tensor
    frames: int
    samples: int
    has_video: bool
    has_audio: bool
    caption: str
    audio_caption: str
    keyframe_latents: Tensor | None = None
    fps: int | None = None
    prompts: Pairs = ()
    audio_prompts: Pairs = ()
    parts: Mapping[str, Tensor] = field(default_factory=dict)


def as_float(content: bytes) -> dict[str, Tensor]:
    """Float32 tensors of a member. SafetensorError if it holds none."""
    return {name: tensor.float() for name, tensor in safetensors.torch.load(content).items()}


def latents_of(record: Record, tensors: Mapping[str, Tensor], texts: ClipTexts) -> Latents:
    """Clip of a record with these latents. BrokenRecord if they are not what the index says."""
    shapes = {"video": record.video, "audio": record.audio} | dict.fromkeys(record.parts, record.audio)
    for part, shape in shapes.items():
        if part not in tensors:
            raise BrokenRecord(f"has no {part} latents")
        if tuple(tensors[part].shape) != shape:
            raise BrokenRecord(f"{part} latents of shape {list(tensors[part].shape)}, not {list(shape)}")
    if extra := sorted(tensors.keys() - {*shapes, "keyframe_latents"}):
        raise BrokenRecord(f"has latents of an unknown name, {extra[0]}")
    if "keyframe_latents" in tensors and tensors["keyframe_latents"].shape != tensors["video"].shape:
        raise BrokenRecord(f"keyframe latents of shape {list(tensors['keyframe_latents'].shape)}, not {record.video}")
    about: Any = {name: getattr(record, name) for name in ("id", "frames", "samples", "has_video", "has_audio", "fps")}
    about["parts"] = {name: tensors[name] for name in record.parts}
    about |= {name: tensor for name, tensor in tensors.items() if name not in record.parts}
    return Latents(**(about | texts._asdict()))
