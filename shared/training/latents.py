"""Latents of every clip, encoded once and kept in shards beside the run."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from shared.codecs.base import AudioCodec, VideoCodec, keyframe_latents
from shared.data.dataset import ClipDataset, Sample, check_clip
from shared.data.manifest import Clip
from shared.training.shards import Entry, ShardStore, check_ids, clip_key, fingerprint
from shared.utils.config import Data
from shared.utils.distributed import World
from shared.utils.errors import UserError
from shared.utils.rng import numpy_generator


@dataclass(frozen=True)
class Latents:
    """One clip: float32 `video` [C, F, h, w] and `audio` [A, C], of so many `frames` and `samples`.

    A stream that the clip lacks is the encoding of zeros, with its `has_` flag False. `stills` [C, F, h, w]: latent i
    as a keyframe, the encoding of one of its frames repeated; None where the store keeps none.
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
    stills: Tensor | None = None


class LatentStore(ShardStore):
    """Latents in shards, keyed by codec weights, data options and the clips' files.

    `encode` fills in what is missing; a clip whose file, codec or options changed is encoded again. Captions
    come from the manifest as it is now. With `stills` every latent is kept as a keyframe too.
    """

    def __init__(
        self,
        folder: str | Path,
        clips: Sequence[Clip],
        data: Data,
        video_codec: VideoCodec,
        audio_codec: AudioCodec,
        stills: bool = False,
    ) -> None:
        """Raises `UserError` if two clips have the same id."""
        check_ids(clips)
        self.data, self.stills = data, stills
        self.codecs = (video_codec, audio_codec)
        self.clips = {clip.id: clip for clip in clips}
        options = data.model_dump_json(include={"fps", "size", "sample_rate", "duration"})
        common = [options, *map(fingerprint, self.codecs), *(["stills"] if stills else [])]
        super().__init__(Path(folder), {clip.id: clip_key(clip, (clip.video, clip.audio), common) for clip in clips})

    def encode(self, world: World, needs_video: bool = True, needs_audio: bool = True, workers: int = 4) -> None:
        """Encode the clips that are missing, each rank its part; decoding runs in `workers` threads.

        Raises `UserError` naming the clip that cannot be read, lacks a stream that is needed, or is silent.
        """

        def made(names: Sequence[str]) -> Iterator[tuple[str, Entry]]:
            clips = [self.clips[name] for name in names]
            data = self.data
            for sample in _read_ahead(
                ClipDataset(clips, data.fps, data.size, data.sample_rate, data.duration), workers
            ):
                check_clip(sample, needs_video, needs_audio)
                yield sample.id, self._encode(sample, world.device)

        self.fill(world, made, "encoding clips")

    def get(self, name: str) -> Latents:
        """The latents of clip `name`, which must have been encoded."""
        about, clip = self.about[name], self.clips[name]
        return Latents(
            name,
            self.tensor(name, "video"),
            self.tensor(name, "audio"),
            about["frames"],
            about["samples"],
            about["has_video"],
            about["has_audio"],
            clip.caption,
            clip.audio_caption,
            self.tensor(name, "stills") if self.stills else None,
        )

    def shapes(self) -> dict[str, tuple[int, int]]:
        """(F, A) of every clip: video latent frames and audio tokens."""
        return {name: tuple(about["shape"]) for name, about in self.about.items()}

    @torch.no_grad()
    def _encode(self, sample: Sample, device: torch.device) -> Entry:
        pixels = sample.video.to(device)
        video = self.codecs[0].encode(pixels[None])[0]
        audio = self.codecs[1].encode(sample.audio[None].to(device))[0]
        if not (video.isfinite().all() and audio.isfinite().all()):
            raise UserError(f"clip {sample.id!r}: its latents are not finite; check the codecs")
        tensors = {"video": video, "audio": audio}
        if self.stills:
            tensors["stills"] = self._stills(sample.id, pixels)
        return tensors, {
            "shape": [video.shape[1], audio.shape[0]],
            "frames": sample.video.shape[1],
            "samples": sample.audio.shape[1],
            "has_video": sample.has_video,
            "has_audio": sample.has_audio,
        }

    def _stills(self, name: str, pixels: Tensor) -> Tensor:
        """[C, F, h, w]: of each latent one of its frames, drawn by the clip's name, as `keyframe_latents` has it."""
        codec = self.codecs[0]
        clock = codec.clock(pixels.shape[1], self.data.fps)
        owner = clock.index(torch.arange(pixels.shape[1], dtype=torch.float64) / self.data.fps)
        draw = numpy_generator(0, "stills", name)
        frames = [int(draw.choice((owner == i).nonzero()[:, 0].numpy())) for i in range(len(clock))]
        images = pixels[:, frames].transpose(0, 1)
        parts = [keyframe_latents(codec, images[:1], first=True)]
        if len(images) > 1:
            parts.append(keyframe_latents(codec, images[1:], first=False))
        return torch.cat(parts)[:, :, 0].transpose(0, 1)


def _read_ahead(dataset: ClipDataset, workers: int) -> Iterator[Sample]:
    """The samples in order, a few of them decoded ahead."""
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Sample]] = deque()
        try:
            for index in range(len(dataset)):
                waiting.append(pool.submit(dataset.__getitem__, index))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
