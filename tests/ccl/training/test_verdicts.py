"""The doctor reads clips as training reads them: over many odd folders both come to one verdict."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from one_process import one_process

from ccl.training.data import TrainingData
from ccl.training.source import read_source
from shared.codecs import Codecs
from shared.data.doctor import examine_all, refusal
from shared.data.manifest import manifest_entries
from shared.data.media import write_audio, write_video
from shared.encoders import HashedWords
from shared.encoders.audio import LogMel
from shared.training.components import Components, LazyTextEncoder
from shared.utils.config import TrainConfig
from shared.utils.errors import UserError

RATE, TRACKS = 16_000, ("speech", "effects", "music")
GOOD = {"id": "a", "video": "a.mp4", "caption": "A bell."}
Make = Callable[[Path], object]


class Means(torch.nn.Module):
    """A codec of both streams: means of 8x8 pixels, and of 640 samples."""

    spatial_stride, sample_rate = 8, RATE

    def encode(self, values: torch.Tensor) -> torch.Tensor:
        if values.ndim == 3:
            return torch.nn.functional.avg_pool1d(values, 640, ceil_mode=True).transpose(1, 2)
        return torch.nn.functional.avg_pool3d(values, (1, 8, 8))


def noise(seconds: float, level: float = 0.1) -> np.ndarray:
    return (level * np.random.default_rng(0).standard_normal((1, round(seconds * RATE)))).astype(np.float32)


def movie(path: Path, seconds: float = 1.0, fps: float = 10, sound: np.ndarray | None = None, **size: int) -> None:
    """Noise to see and to hear; an empty `sound`: none."""
    shape = (round(seconds * fps), size.get("height", 32), size.get("width", 32), 3)
    frames = np.random.default_rng(1).integers(0, 255, shape).astype(np.uint8)
    sound = noise(seconds) if sound is None else sound
    write_video(path, frames, fps, sound if sound.size else None, RATE)


def lines(*records: Any, end: str = "\n", mark: bytes = b"") -> Make:
    """A manifest of records, or of lines as they are."""
    texts = [record if isinstance(record, str) else json.dumps(record) for record in records]
    return lambda folder: (folder / "manifest.jsonl").write_bytes(mark + end.join(texts).encode())


def text(content: str | bytes, name: str = "a.txt") -> Make:
    content = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(content)


def files(then: Make, **sounds: np.ndarray | float) -> Make:
    """Wav files, or movies of so many seconds, and a manifest."""

    def make(folder: Path) -> None:
        for name, sound in sounds.items():
            if isinstance(sound, np.ndarray):
                write_audio(folder / f"{name}.wav", sound, RATE)
            else:
                movie(folder / f"{name}.mp4", sound)
        then(folder)

    return make


def after(*steps: Make) -> Make:
    return lambda folder: [step(folder) for step in steps]


def cut(folder: Path) -> None:
    whole = (folder / "a.mp4").read_bytes()
    (folder / "a.mp4").write_bytes(whole[: len(whole) // 2])


def tracks(**found: str) -> dict[str, Any]:
    return GOOD | {"tracks": found}


#: A folder with a.mp4 (1 s, with sound) in it, changed; and whether it can train.
FOLDERS: dict[str, tuple[Make, bool]] = {
    "pairs": (text("A bell."), True),
    "a mark": (text(b"\xef\xbb\xbfA bell."), True),
    "two lines that end as Windows ends them": (text("A bell.\r\nA ring.\r\n"), True),
    "characters that end no line": (text("A\u2028B\x85C\x0bD\x0cE"), True),
    "an empty caption": (text(""), True),
    "no caption": (lambda folder: None, False),
    "three lines": (text("1\n2\n3"), False),
    "a caption in Latin-1": (text("Gl\xf6ckchen".encode("latin-1")), False),
    "a caption in UTF-16": (text("A bell.".encode("utf-16")), False),
    "a caption with NUL": (text("A\0B"), False),
    "a caption that is a folder": (lambda folder: (folder / "a.txt").mkdir(), False),
    "a caption without a video": (after(text("A."), text("B.", "b.txt")), True),  # told, and left out
    "two endings": (
        after(text("A."), lambda folder: shutil.copy(folder / "a.mp4", folder / "a.mov")),
        False,
    ),
    "a name in Unicode": (
        lambda folder: ((folder / "a.mp4").rename(folder / "größe 🔔.mp4"), text("A.", "größe 🔔.txt")(folder)),
        True,
    ),
    "a video that is a folder": (
        after(text("A."), text("B.", "b.txt"), lambda folder: (folder / "b.mp4").mkdir()),
        True,
    ),
    "a video cut off": (after(text("A."), cut), False),
    "a video that is text": (after(text("A."), text("hello", "a.mp4")), False),
    "an empty video": (after(text("A."), text("", "a.mp4")), False),
    "a link to nothing": (
        after(text("A."), text("B.", "b.txt"), lambda folder: (folder / "b.mp4").symlink_to("gone.mp4")),
        False,
    ),
    "a link to a clip": (
        after(text("A."), text("B.", "b.txt"), lambda folder: (folder / "b.mp4").symlink_to("a.mp4")),
        True,
    ),
    "a folder inside": (after(text("A."), lambda folder: (folder / "inside").mkdir()), True),
    "no sound track": (after(text("A."), lambda folder: movie(folder / "a.mp4", sound=np.zeros((1, 0)))), False),
    "silence": (after(text("A."), lambda folder: movie(folder / "a.mp4", sound=noise(1.0, 1e-4))), False),
    "one picture": (after(text("A."), lambda folder: movie(folder / "a.mp4", 0.1)), True),
    "odd sides": (after(text("A."), lambda folder: movie(folder / "a.mp4", height=50, width=38)), True),
    "a manifest": (lines(GOOD), True),
    "a manifest with a mark, blank lines and no last end": (
        lines(GOOD, "", " ", GOOD | {"id": "b"}, end="\r\n", mark=b"\xef\xbb\xbf"),
        True,
    ),
    "an empty manifest": (lines(), False),
    "a manifest in UTF-16": (text(json.dumps(GOOD).encode("utf-16"), "manifest.jsonl"), False),
    "a manifest that is one list": (lines([GOOD]), False),
    "no JSON": (lines(GOOD, "{"), False),
    "NaN": (lines(json.dumps(GOOD)[:-1] + ', "start": NaN}'), False),
    "a key twice": (lines(json.dumps(GOOD)[:-1] + ', "id": "b"}'), False),
    "an unknown key": (lines(GOOD | {"captoin": "x"}), False),
    "a number as caption": (lines(GOOD | {"caption": 7}), False),
    "a list as path": (lines(GOOD | {"video": ["a.mp4"]}), False),
    "null where there is a default": (lines(GOOD | {"audio": None, "start": None, "tracks": None}), True),
    "no id": (lines({"video": "a.mp4", "caption": ""}), False),
    "an empty id": (lines(GOOD | {"id": ""}), False),
    "an id twice": (lines(GOOD, GOOD), False),
    "half of a character": (lines('{"id": "a", "video": "a.mp4", "caption": "\\ud83d"}'), False),
    "a path of 5,000 letters": (lines(GOOD | {"video": "x" * 5000}), False),
    "a path with NUL": (lines(GOOD | {"video": "a\0.mp4"}), False),
    "a missing file": (lines(GOOD | {"video": "gone.mp4"}), False),
    "a folder as file": (lines(GOOD | {"video": "."}), False),
    "an absolute path": (lambda folder: lines(GOOD | {"video": str(folder / "a.mp4")})(folder), True),
    "a path that goes up": (lambda folder: lines(GOOD | {"video": f"../{folder.name}/a.mp4"})(folder), True),
    "text alone": (lines({"id": "a", "caption": "A bell."}), False),
    "pictures alone": (lines(GOOD | {"audio": ""}), False),
    "sound alone": (files(lines({"id": "a", "audio": "n.wav", "caption": ""}), n=noise(1.0)), False),
    "a sound of its own": (files(lines(GOOD | {"audio": "n.wav"}), n=noise(1.0)), True),
    "a sound a little short": (files(lines(GOOD | {"audio": "n.wav"}), n=noise(0.8)), True),
    "a sound too short": (files(lines(GOOD | {"audio": "n.wav"}), n=noise(0.5)), False),
    "a sound that is silent": (files(lines(GOOD | {"audio": "n.wav"}), n=noise(1.0, 0.0)), False),
    "a cut": (lines(GOOD | {"start": 0.2, "end": 0.9}), True),
    "a cut beyond the end": (lines(GOOD | {"start": 0.2, "end": 3}), False),
    "a start beyond the end": (lines(GOOD | {"start": 5}), False),
    "an end before its start": (lines(GOOD | {"start": 0.5, "end": 0.2}), False),
    "a start below zero": (lines(GOOD | {"start": -1}), False),
    "subsets": (lines(GOOD | {"subsets": ["face"]}), True),
    "held out": (lines(GOOD | {"subsets": ["conflict"]}), False),
    "held out and not": (lines(GOOD, GOOD | {"id": "b", "subsets": ["conflict"]}), True),
    "held out and without sound": (
        after(
            lambda folder: movie(folder / "b.mp4", sound=np.zeros((1, 0))),
            lines(GOOD, GOOD | {"id": "b", "video": "b.mp4", "subsets": ["conflict"]}),
        ),
        True,
    ),
    "tracks": (files(lines(tracks(speech="s.wav", effects="e.wav")), s=noise(1.0), e=noise(1.0)), True),
    "a silent track": (files(lines(tracks(speech="s.wav", music="e.wav")), s=noise(1.0), e=noise(1.0, 0.0)), True),
    "tracks unequal to a frame": (files(lines(tracks(speech="s.wav", music="m.wav")), s=noise(1), m=noise(0.95)), True),
    "tracks unequal": (files(lines(tracks(speech="s.wav", music="m.wav")), s=noise(1.0), m=noise(0.6)), False),
    "a track longer than the pictures": (
        files(lines(tracks(speech="s.wav", music="m.wav")), s=noise(1.0), m=noise(3.0)),
        True,
    ),
    "a missing track": (lines(tracks(speech="gone.wav")), False),
    "a track that is text": (after(text("hello", "s.wav"), lines(tracks(speech="s.wav"))), False),
    "an empty track": (
        after(lambda folder: soundfile.write(folder / "s.wav", [], RATE), lines(tracks(speech="s.wav"))),
        False,
    ),
    "an unknown track": (files(lines(tracks(voice="s.wav")), s=noise(1.0)), False),
    "a track with NaN": (
        after(
            lambda folder: soundfile.write(folder / "s.wav", np.full(RATE, np.nan), RATE, subtype="FLOAT"),
            lines(tracks(speech="s.wav")),
        ),
        False,
    ),
}


def training_refuses(folder: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What training says when it reads and encodes the folder's clips, on task mtv where they have tracks."""
    told = {"manifest": str(folder), "size": (16, 16), "latents": str(output)}
    config = TrainConfig(data=told, output=str(output), model={}, train={"steps": 1}, control={})
    encoders = dict.fromkeys(TRACKS, LogMel(n_mels=4))
    components = Components(Codecs(Means(), Means()), LazyTextEncoder(None), encoders)
    try:
        clips = read_source(config, ["t2av"]).clips
        if any(clip.tracks for clip in clips):
            config = config.model_copy(update={"tasks": {"mtv": 1.0}})
        TrainingData.encoded(config, clips, components, HashedWords(), one_process(monkeypatch))
    except UserError as error:
        return str(error)
    return ""


def doctor_refuses(folder: Path) -> str:
    """Return the first clip that the doctor refuses, and why."""
    try:
        entries = manifest_entries(folder)
        findings = list(examine_all(entries, workers=1))
    except UserError as error:
        return str(error)
    whole = refusal(entries, findings)
    assert not any(f.verdict == "refuse" for f in findings) or whole
    return whole


@pytest.mark.parametrize("name", FOLDERS)
def test_both_verdicts_are_one(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, can_train = FOLDERS[name]
    folder = tmp_path / "clips"
    folder.mkdir()
    movie(folder / "a.mp4")
    make(folder)
    by_training, by_doctor = training_refuses(folder, tmp_path / "out", monkeypatch), doctor_refuses(folder)
    assert (not by_training, not by_doctor) == (can_train, can_train), f"{by_training!r} / {by_doctor!r}"
    assert "\n" not in by_training + by_doctor


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    movie(tmp_path / "a.mp4")
    text("A bell.")(tmp_path)
    for name in ("a.mp4", "a.txt"):
        (tmp_path / name).chmod(0)
        assert training_refuses(tmp_path, tmp_path / "out", monkeypatch) and doctor_refuses(tmp_path)
        (tmp_path / name).chmod(0o644)
