"""The doctor of a data set: what is measured is right, and each defect is found and told."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from shared.data.doctor import LatentSanity, clipping_share, examine, examine_all, voiced_share
from shared.data.manifest import Clip, manifest_entries, read_manifest
from shared.data.media import write_audio, write_video
from shared.puppets.clip import render_clip, sample_spec
from shared.utils.errors import UserError

RATE = 16_000


def noise(seconds: float = 1.0, level: float = 0.1) -> np.ndarray:
    return (level * np.random.default_rng(0).standard_normal((1, round(seconds * RATE)))).astype(np.float32)


def clip(folder: Path, sound: np.ndarray | None = None, **fields: object) -> Clip:
    """1 s of 32x32 at 10 fps, with noise; an empty `sound`: no sound track."""
    sound = noise() if sound is None else sound
    frames = np.random.default_rng(1).integers(0, 255, (10, 32, 32, 3)).astype(np.uint8)
    write_video(folder / "a.mp4", frames, 10, sound if sound.size else None, RATE)
    return Clip(**({"id": "a", "video": folder / "a.mp4", "caption": "A noise."} | fields))


def test_a_sound_clip_is_ok_and_measured(tmp_path: Path) -> None:
    for track, seconds in (("speech", 1.0), ("effects", 1.05)):
        write_audio(tmp_path / f"{track}.wav", noise(seconds), RATE)
    found = examine(clip(tmp_path, tracks={name: tmp_path / f"{name}.wav" for name in ("speech", "effects")}))
    assert (found.verdict, found.refused, found.warnings) == ("ok", [], [])
    facts = found.facts
    assert (facts["width"], facts["height"], facts["sample_rate"], facts["caption_words"]) == (32, 32, RATE, 2)
    assert facts["seconds"] == pytest.approx(1.0) and facts["fps"] == facts["fps_true"] == pytest.approx(10)
    assert facts["level_dbfs"] == pytest.approx(-20, abs=1) and not facts["silent"] and not facts["variable_fps"]
    assert facts["tracks"] == {"speech": 1.0, "effects": 1.05} and facts["speech_share"] < 0.1
    assert abs(facts["audio_offset"]) < 0.1
    json.dumps(found.as_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("sound", "fields", "verdict", "words"),
    [
        (np.zeros((1, 0)), {}, "refuse", "has no sound track"),
        (noise(1.0, 1e-3), {}, "refuse", "its sound is silent"),
        (None, {"audio": noise(0.5)}, "refuse", "its sound lasts 0.50 s, its pictures 1.00 s"),
        (None, {"end": 2.0}, "refuse", "ends at 2 s, but its pictures at 1.00 s"),
        (noise(1.0, 0.007), {}, "warn", "very quiet"),
        (np.sign(noise()), {}, "warn", "is clipped"),
        (None, {"caption": ""}, "warn", "has no caption"),
        (None, {"caption": "word " * 400}, "warn", "has 400 words"),
        (
            None,
            {"prompts": [(0, "a"), (1, "b")]},
            "warn",
            "begins at 1 s, its pictures end at 1.00 s; it is never shown",
        ),
    ],
)
def test_defects_are_told(
    tmp_path: Path, sound: np.ndarray | None, fields: dict[str, object], verdict: str, words: str
) -> None:
    if isinstance(short := fields.get("audio"), np.ndarray):
        write_audio(tmp_path / "short.wav", short, RATE)
        fields = {"audio": tmp_path / "short.wav"}
    found = examine(clip(tmp_path, sound, **fields))
    assert found.verdict == verdict and words in "; ".join(found.refused + found.warnings)
    json.dumps(found.as_dict(), allow_nan=False)


def test_files_that_are_broken_missing_or_cut_off(tmp_path: Path) -> None:
    whole = clip(tmp_path)
    assert whole.video is not None
    content = whole.video.read_bytes()
    for change, words in ((content[: len(content) // 2], "broken"), (b"", "empty"), (None, "no such file")):
        whole.video.unlink()
        if change is not None:
            whole.video.write_bytes(change)
        found = examine(whole)
        assert found.verdict == "refuse" and words in found.refused[0]


def test_a_rate_that_varies_and_tracks_of_unequal_length(tmp_path: Path) -> None:
    import av

    frame = np.zeros((32, 32, 3), np.uint8)
    with av.open(str(tmp_path / "v.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for time in (0, 1, 2, 6, 7, 8, 9):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = time, Fraction(1, 10)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    for track, seconds in (("speech", 1.0), ("music", 0.7)):
        write_audio(tmp_path / f"{track}.wav", noise(seconds), RATE)
    tracks = {name: tmp_path / f"{name}.wav" for name in ("speech", "music")}
    found = examine(
        Clip(id="v", video=tmp_path / "v.mkv", audio=tmp_path / "speech.wav", caption="Noise.", tracks=tracks)
    )
    assert found.facts["variable_fps"] and found.facts["fps_true"] == pytest.approx(10, rel=0.02)
    assert any("its frame rate varies: 17% of the pictures" in text for text in found.warnings)
    assert "its tracks are not equally long, to a frame: music lasts 0.700 s, speech 1.000 s" in found.refused


def test_speech_is_told_from_the_rest() -> None:
    """On the stage, whose script says who speaks when: voices count, music and hits do not."""
    shares = []
    for index in range(8):
        spec = sample_spec(3, index, "full", (32, 32))
        spoken = sum(s.end - s.start for person in spec.characters for s in person.syllables)
        shares.append((spoken > 0.5, voiced_share(render_clip(spec).mix.astype(np.float32), spec.rate)))
    speaking, quiet = ([share for spoken, share in shares if spoken == which] for which in (True, False))
    assert speaking and quiet and min(speaking) > max(quiet) + 0.05
    assert voiced_share(np.sin(np.arange(RATE) / RATE * 2 * np.pi * 150).astype(np.float32), RATE) == 0
    assert voiced_share(np.zeros(10, np.float32), RATE) == 0


def test_clipping_takes_three_in_a_row() -> None:
    sound = np.zeros((2, 100), np.float32)
    sound[0, 10:14], sound[1, 50:52] = 1.0, -1.0
    assert clipping_share(sound) == pytest.approx(4 / 200)


class Codec:
    spatial_stride, sample_rate = 8, RATE

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def encode(self, values: object) -> object:
        import torch

        return self.scale * torch.randn(1, 8, 100, generator=torch.Generator().manual_seed(0))


def test_latents_must_be_finite_and_near_unit_variance(tmp_path: Path) -> None:
    for scale, verdict in ((1.0, "ok"), (0.2, "warn"), (5.0, "warn"), (float("nan"), "refuse")):
        sanity = LatentSanity(Codec(1.0), Codec(scale), 10.0, (32, 32))
        found = examine(clip(tmp_path), sanity)
        assert found.verdict == verdict and found.facts["video_latent_std"] == pytest.approx(1, abs=0.1)
    assert found.refused == ["its audio latents are not finite"]


def test_entries_that_training_would_refuse_are_refused_in_its_words(tmp_path: Path) -> None:
    clip(tmp_path)
    right = '{"id": "a", "video": "a.mp4", "caption": "x"}'
    wrong = {
        "{": "not JSON",
        '{"id": "b", "video": "a.mp4"}': "caption: ",
        "[]": "dictionary",
        right: "already on line 1",
        '{"id": "c", "video": "gone.mp4", "caption": "x"}': "gone.mp4",
    }
    (tmp_path / "manifest.jsonl").write_text("\n".join([right, *wrong]))
    first, *rest = examine_all(manifest_entries(tmp_path), workers=1)
    assert first.verdict == "ok" and [found.id for found in rest] == ["line 2", "b", "?", "a", "c"]
    for found, reason in zip(rest, wrong.values(), strict=True):
        assert found.verdict == "refuse" and not found.facts and reason in found.refused[0]
    for line in wrong:
        (tmp_path / "manifest.jsonl").write_text(f"{right}\n{line}")
        _, found = examine_all(manifest_entries(tmp_path), workers=1)
        with pytest.raises(UserError) as error:
            read_manifest(tmp_path)
        assert found.refused == [str(error.value)]


def test_latents_need_a_checkpoint_with_codecs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        list(examine_all([clip(tmp_path)], 1, tmp_path / "nowhere"))
