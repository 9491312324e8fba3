"""One process's encoding: the size that suits a clip, what is embedded of it, and clips that fail. See also
tests/scripts/test_encode.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shared.checkpoint.registry import find_component
from shared.codecs import LinearAudioCodec, LinearVideoCodec
from shared.data.encode import ClipEncoder, EncodeJob, encode
from shared.data.manifest import Clip
from shared.data.media import write_video
from shared.data.shard_index import text_key
from shared.data.sharded_latents import ShardedLatents
from shared.encoders import HashedWords
from shared.utils.errors import UserError

SETTINGS: dict[str, Any] = {
    "fps": 8.0, "duration": None, "sizes": [[16, 48], [32, 32], [48, 16]], "needs": "both", "keyframe_latents": False,
    "tracks": None, "text_dtype": "fp32", "latents_dtype": "float16", "low_memory": False, "shard_clips": 2,
}  # fmt: skip


def features(clip: Clip, frames: int, fps: float, encoders: Any) -> dict[str, torch.Tensor]:
    assert set(encoders) == {"speech", "effects", "music"} and fps == 8.0
    return {"music": torch.full((frames, 2), 0.1)}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("components")
    LinearVideoCodec(latent_channels=4).save_pretrained(folder / "video_codec")
    LinearAudioCodec(latent_channels=4, iterations=1).save_pretrained(folder / "audio_codec")
    HashedWords(dim=16).save_pretrained(folder / "text_encoder")
    return {name: find_component(name, folder) for name in ("video_codec", "audio_codec", "text_encoder")}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    """Upright, wide, square; the last is silent."""
    folder, rng = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    made = []
    for i, (height, width, level) in enumerate(((64, 32, 0.2), (32, 80, 0.2), (48, 48, 0.2), (48, 48, 0.0))):
        sound = rng.normal(0, level, (1, 16_000)).astype(np.float32)
        write_video(folder / f"{i}.mp4", rng.integers(0, 255, (8, height, width, 3), np.uint8), 8, sound, 16_000)
        made.append(Clip(id=f"clip{i}", video=folder / f"{i}.mp4", caption="A bell.", audio_caption="Ding."))
    return made


def job(output: Path, clips: list[Clip], sources: dict[str, Any], **settings: Any) -> EncodeJob:
    return EncodeJob(output, clips, sources, SETTINGS | settings, features, lambda text: text.upper(), device="cpu")


def test_each_clip_takes_the_size_of_the_nearest_shape_and_a_bad_one_costs_itself(
    clips: list[Clip], sources: dict[str, Any], tmp_path: Path
) -> None:
    failed = encode(job(tmp_path / "out", clips, sources))
    assert failed is not None and [failure["id"] for failure in failed] == ["clip3"]
    assert failed[0]["reason"].startswith("its sound is silent") and not failed[0]["again"]
    records = ShardedLatents(tmp_path / "out").records
    assert {name: record.video[2:] for name, record in records.items()} == {
        "clip0": (6, 2), "clip1": (2, 6), "clip2": (4, 4),
    }  # fmt: skip


def test_texts_and_tracks_of_a_record(clips: list[Clip], sources: dict[str, Any], tmp_path: Path) -> None:
    log_mel = dict.fromkeys(("speech", "effects", "music"), "log-mel")
    assert encode(job(tmp_path / "out", clips[2:3], sources, tracks=log_mel, latents_dtype="float32")) == []
    shards = ShardedLatents(tmp_path / "out", tracks=True)
    texts = shards.member("clip2", "texts")
    assert set(texts) == {text_key(text) for text in ("A bell.", "Ding.", "A BELL.")}
    words = HashedWords(dim=16).encode(["Ding."])[0]
    assert torch.equal(texts[text_key("Ding.")], words[: shards.records["clip2"].tokens[text_key("Ding.")]])
    assert torch.equal(shards.member("clip2", "tracks")["music"], torch.full((8, 2), 0.1))  # not rounded
    assert set(shards.fingerprints) == {"video_codec", "audio_codec", "text_encoder", "speech", "effects", "music"}


def test_sizes_must_suit_the_codec_and_keys_say_what_decides(
    clips: list[Clip], sources: dict[str, Any], tmp_path: Path
) -> None:
    cpu = torch.device("cpu")
    with pytest.raises(UserError, match="--size 30 32: both sides must be multiples of the codec's 8 pixels"):
        ClipEncoder(job(tmp_path, clips, sources, sizes=[[30, 32]]), cpu)
    encoder, other = (ClipEncoder(job(tmp_path, clips, sources, duration=d), cpu) for d in (None, 0.5))
    edited = clips[0].model_copy(update={"caption": "A horn."})
    assert len({encoder.key(clips[0]), encoder.key(edited), encoder.key(clips[1]), other.key(clips[0])}) == 4
