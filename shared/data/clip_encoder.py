"""One clip into what a record of latent shards holds: latents, text embeddings and features of its tracks."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shared.data.dataset import ClipDataset, Sample, check_clip
from shared.data.manifest import Clip
from shared.data.media import is_silent, read_video
from shared.data.shard_index import text_key
from shared.encoders.base import TextEncoder
from shared.encoders.cache import fingerprint as text_fingerprint
from shared.training.latents import LatentStore, _read_ahead
from shared.training.shards import clip_key, fingerprint
from shared.utils.config import Data
from shared.utils.errors import UserError

#: A record before it is in a tar: what its JSON says, and its tensors by member.
Parts = tuple[dict[str, Any], dict[str, dict[str, Tensor]]]


@dataclass
class TrackRows:
    """Features of a clip's tracks: `rows(clip, frames)` per video frame, by track, and what made them."""

    rows: Callable[[Clip, int], dict[str, Tensor]]
    fingerprints: dict[str, str]


@dataclass
class ClipEncoder:
    """One process's codecs and encoders, and what they are applied to.

    A clip is encoded at that of `sizes` whose aspect ratio is nearest to its own. `texts(clip)`: what is embedded, by
    name; `needs`: the streams without which a clip is refused.
    """

    clips: Sequence[Clip]
    data: Data
    sizes: Sequence[tuple[int, int]]
    codecs: tuple[Any, Any]
    text_encoder: TextEncoder
    device: torch.device
    texts: Callable[[Clip], dict[str, str]]
    needs: tuple[str, ...] = ("video", "audio")
    stills: bool = False
    tracks: TrackRows | None = None
    threads: int = 4
    stores: dict[tuple[int, int], _Latents] = field(init=False)

    def __post_init__(self) -> None:
        """Raises UserError if a size does not suit the video codec, or two clips have the same id."""
        stride = self.codecs[0].spatial_stride
        for height, width in self.sizes:
            if height % stride or width % stride:
                raise UserError(f"--size {height} {width}: both sides must be multiples of the codec's {stride} pixels")
        self.stores = {
            size: _Latents(
                Path(os.devnull), self.clips, self.data.model_copy(update={"size": size}), *self.codecs, self.stills
            )
            for size in self.sizes
        }

    def fingerprints(self) -> dict[str, str]:
        """What made the records."""
        names = ("video_codec", "audio_codec")
        found = {name: fingerprint(codec) for name, codec in zip(names, self.codecs, strict=True)}
        found["text_encoder"] = text_fingerprint(self.text_encoder)
        return found | (self.tracks.fingerprints if self.tracks else {})

    def key(self, clips: Sequence[Clip]) -> str:
        """Hash of all that decides these clips' records but the components of `fingerprints`."""
        digest = hashlib.sha256()
        for clip in clips:
            parts = [store.keys[clip.id] for store in self.stores.values()]
            parts += [clip_key(clip, [clip.tracks[name] for name in sorted(clip.tracks)], sorted(clip.tracks))]
            parts += [json.dumps([self.texts(clip), clip.caption, clip.audio_caption, clip.subsets])]
            digest.update("\x1f".join(parts).encode())
        return digest.hexdigest()

    def read(self, clips: Sequence[Clip]) -> Iterator[Sample | Exception]:
        """The decoded clips in order, or why one cannot be; a few are decoded ahead."""
        attempts: Any = _Attempts(clips, self._read)
        yield from _read_ahead(attempts, self.threads)

    def record(self, clip: Clip, sample: Sample) -> Parts:
        """Raises UserError if the clip lacks what it needs, is silent, or cannot be encoded."""
        check_clip(sample, "video" in self.needs, "audio" in self.needs)
        store = self.stores[(sample.video.shape[2], sample.video.shape[3])]
        latents, facts = store.entry(sample, self.device)
        texts = self.texts(clip)
        embedded = {name: packed_text(self.text_encoder.encode([text])[0]) for name, text in texts.items()}
        members = {"latents": {name: _half(value) for name, value in latents.items()}, "texts": embedded}
        if self.tracks is not None:
            rows = self.tracks.rows(clip, facts["frames"])
            members["tracks"] = {name: _half(value) for name, value in rows.items()}
        about = {name: facts[name] for name in ("frames", "samples", "has_video")} | {
            "id": clip.id,
            "has_audio": facts["has_audio"] and not is_silent(sample.audio.numpy()),
            "caption": clip.caption,
            "audio_caption": clip.audio_caption,
            "subsets": clip.subsets,
            "speakers": clip.speakers,
            "video": list(latents["video"].shape),
            "audio": list(latents["audio"].shape),
            "texts": {name: [text_key(text), len(embedded[name])] for name, text in texts.items()},
        }
        return about, members

    def _read(self, clip: Clip) -> Sample:
        size = self.sizes[0] if len(self.sizes) == 1 or clip.video is None else self._nearest(clip)
        data = self.data
        return ClipDataset([clip], data.fps, size, data.sample_rate, data.duration)[0]

    def _nearest(self, clip: Clip) -> tuple[int, int]:
        """By the ratio of its sides as they are shown, so a picture is decoded."""
        assert clip.video is not None
        height, width = read_video(clip.video, 1.0, None, clip.start, clip.start + 1.0).shape[1:3]
        wanted = height / width
        return min(self.sizes, key=lambda size: max(wanted * size[1] / size[0], size[0] / size[1] / wanted))


class _Latents(LatentStore):
    """What training would encode of a sample; here it goes elsewhere."""

    def entry(self, sample: Sample, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return self._encode(sample, device)


class _Attempts:
    """The samples of clips, or in a sample's place the error that reading it raised."""

    def __init__(self, clips: Sequence[Clip], read: Callable[[Clip], Sample]) -> None:
        self.clips, self.read = clips, read

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Sample | Exception:
        try:
            return self.read(self.clips[index])
        except Exception as error:
            return error


def packed_text(rows: Tensor) -> Tensor:
    """[max_length, dim] -> [tokens, dim] without the zeros at the end; bfloat16 where that loses nothing."""
    rows = rows.detach().float().cpu()
    rows = rows[: int(rows.any(-1).nonzero().max()) + 1].contiguous()
    half = rows.bfloat16()
    return half if torch.equal(half.float(), rows) else rows


def _half(value: Tensor) -> Tensor:
    """As `ShardStore` keeps it."""
    return value.to("cpu", torch.float16).contiguous()
