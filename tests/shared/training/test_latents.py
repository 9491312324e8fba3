from __future__ import annotations

import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from safetensors import safe_open

from shared.codecs import LinearVideoCodec, keyframe_latents
from shared.data.dataset import ClipDataset
from shared.data.manifest import Clip
from shared.data.media import write_video
from shared.training.latents import LatentStore
from shared.utils.config import Data
from shared.utils.errors import UserError


class Video(torch.nn.Module):
    """Means of 4 frames (the first alone) and 8x8 pixels; counts what it encodes."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(1))
        self.seen = 0

    def encode(self, video):
        self.seen += len(video)
        padded = torch.cat([video[:, :, :1].expand(-1, -1, 3, -1, -1), video], 2)
        return torch.nn.functional.avg_pool3d(padded, (4, 8, 8), ceil_mode=True) * self.gain


class Audio(torch.nn.Module):
    def encode(self, audio):
        return torch.nn.functional.avg_pool1d(audio, 640, ceil_mode=True).transpose(1, 2)


DATA = Data(manifest="unused", size=(16, 16))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    made = []
    for i, frames in enumerate((8, 8, 12)):
        path = folder / f"{i}.mp4"
        sound = rng.normal(0, 0.2, (1, frames * 1000)).astype(np.float32)
        write_video(path, rng.integers(0, 255, (frames, 16, 16, 3), np.uint8), 16, sound, 16_000)
        made.append(Clip(id=f"clip{i}", video=path, caption=f"caption {i}", audio_caption="sound"))
    return made


def encoded(folder, clips, video, world, **changes):
    store = LatentStore(folder, clips, DATA.model_copy(update=changes), video, Audio())
    store.encode(world)
    return store


def test_latents_have_the_codecs_shapes_and_the_clips_captions(tmp_path, clips, world):
    store = encoded(tmp_path, clips, Video(), world)
    assert len(store) == 3 and store.shapes() == {"clip0": (3, 13), "clip1": (3, 13), "clip2": (4, 19)}
    latents = store.get("clip2")
    assert latents.video.shape == (3, 4, 2, 2) and latents.audio.shape == (19, 1)
    assert latents.video.dtype == torch.float32 and latents.video.std() > 0 and latents.audio.std() > 0
    assert (latents.frames, latents.samples, latents.caption) == (
        12,
        12_000,
        "caption 2",
    ) and latents.has_audio
    (file,) = tmp_path.glob("*.safetensors")
    with safe_open(file, framework="pt") as handle:
        assert handle.get_tensor("clip2.video").dtype == torch.float16


def test_only_what_changed_is_encoded_again(tmp_path, clips, world):
    video = Video()
    clips = [clip.model_copy(update={"video": shutil.copy2(clip.video, tmp_path), "audio": None}) for clip in clips]
    clips = [Clip(**{**clip.model_dump(), "audio": clip.video}) for clip in clips]
    store = tmp_path / "latents"
    counts = []
    for change in ("first", "nothing", "one more", "file", "codec", "options"):
        if change == "file":
            os.utime(clips[1].video, (1, 1))
        if change == "codec":
            video.gain.data.mul_(2)
        chosen = clips[: 2 if change in ("first", "nothing") else 3]
        before = video.seen
        encoded(store, chosen, video, world, **({"duration": 0.25} if change == "options" else {}))
        counts.append(video.seen - before)
    assert counts == [2, 0, 1, 1, 3, 3]
    assert len(list(store.glob("*.safetensors"))) == 1  # what the last options made; the rest is stale and gone


def test_errors_name_the_clip_and_leave_no_file(tmp_path, clips, world):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    for clip, words in [
        (Clip(id="bad", video=broken, caption=""), "clip 'bad'"),
        (Clip(id="gone", video=tmp_path / "gone.mp4", caption=""), "clip 'gone'.*No such file"),
        (clips[0], "clip id 'clip0' occurs twice"),
    ]:
        with pytest.raises(UserError, match=words):
            encoded(tmp_path / "latents", [*clips, clip], Video(), world)
    assert [file.name for file in (tmp_path / "latents").iterdir()] == [".lock"]


def test_two_runs_that_share_a_folder_encode_a_clip_once(tmp_path, clips, world):
    """The second waits for the first, and then finds what it needs."""
    begun, let_go = threading.Event(), threading.Event()

    class Slow(Video):
        def encode(self, video):
            begun.set()
            assert let_go.wait(20)
            return super().encode(video)

    first, second = Slow(), Slow()
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(encoded, tmp_path, clips, first, world)
        assert begun.wait(20)
        other = pool.submit(encoded, tmp_path, clips, second, world)
        time.sleep(0.2)
        let_go.set()
        stores = one.result(), other.result()
    assert (first.seen, second.seen) == (3, 0)
    torch.testing.assert_close(*(store.get("clip0").video for store in stores), rtol=0, atol=0)


def test_latents_that_are_not_finite_are_refused(tmp_path, clips, world):
    video = Video()
    video.gain.data.fill_(float("nan"))
    with pytest.raises(UserError, match="clip 'clip0': its latents are not finite"):
        encoded(tmp_path, clips, video, world)


def test_stills_are_latents_of_frames_that_stand_still(tmp_path, clips, world):
    codec = LinearVideoCodec(latent_channels=4 * 8 * 8 * 3)  # all of them: it loses nothing
    store = LatentStore(tmp_path, clips, DATA, codec, Audio(), stills=True)
    store.encode(world)
    latents = store.get("clip2")
    assert latents.stills.shape == latents.video.shape
    sample = ClipDataset(clips, DATA.fps, DATA.size, DATA.sample_rate)[2]
    decoded = codec.decode(latents.stills[None], 13)[0]
    for index, frames in enumerate(([0], range(1, 5), range(5, 9), range(9, 12))):
        own = decoded[:, frames[0] : frames[-1] + 1]
        torch.testing.assert_close(own, own[:, :1].expand_as(own), atol=1e-2, rtol=0)
        images = sample.video[:, list(frames)].transpose(0, 1)
        encoded = keyframe_latents(codec, images, first=index == 0)[:, :, 0]
        assert any(torch.allclose(latents.stills[:, index], one, atol=1e-2) for one in encoded)
    plain = LatentStore(tmp_path, clips, DATA, codec, Audio())
    assert len(plain) == 0  # another kind of store; its clips have no stills
