"""ImageBind's scores: which cosines, which clips are refused, and a file of random weights end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_clips import ArrayMedia, moving, tone, write_clip
from feature_models import save_clip
from small_imagebind import SMALL, randomised, save_pickle

from scripts.convert import main as convert
from scripts.score import main as score
from shared.evaluation.metrics.imagebind_score import DEFAULTS, ImageBindAV, ImageBindTA, ImageBindTV
from shared.perception import imagebind_encoder
from shared.perception.imagebind import ImageBind
from shared.perception.imagebind_encoder import ImageBindEncoder
from shared.perception.imagebind_text import TextTokenizer


class Cut(ArrayMedia):
    """Frames end before the file says."""

    duration = 3.0


PUBLISHED = {**DEFAULTS, "published": True}


def encoder() -> ImageBindEncoder:
    return ImageBindEncoder(randomised(ImageBind(SMALL)))


def clip(seconds: float = 3.0, fps: float = 8.0, loud: float = 1.0, sound: float | None = None) -> ArrayMedia:
    sounds = loud * tone(seconds if sound is None else sound)
    return ArrayMedia(moving(round(seconds * fps)), fps, sounds, text="a ball")


def test_the_cosine_of_both_sides() -> None:
    network, media = encoder(), clip()
    video, audio = network.of_video(media, 5, False), network.of_sound(media, 3, False)
    assert ImageBindAV(network).clip(media).value == pytest.approx(100 * video @ audio, abs=1e-3)
    video, audio = network.of_video(media, 5, True), network.of_sound(media, 3, True)
    assert ImageBindAV(network, PUBLISHED).clip(media).value == pytest.approx(100 * video @ audio, abs=1e-3)
    few = {"video_clips": 1, "audio_clips": 2, "published": False}
    video, audio = network.of_video(media, 1, False), network.of_sound(media, 2, False)
    assert ImageBindAV(network, few).clip(media).value == pytest.approx(100 * video @ audio, abs=1e-3)


def test_either_side_and_the_text(tmp_path: Path) -> None:
    network, media = encoder(), clip()
    tokenizer = TextTokenizer.load(save_clip(tmp_path), SMALL)
    text = network.text(tokenizer("a ball")[0])
    for kind, side in (
        (ImageBindTV, network.of_video(media, 5, False)),
        (ImageBindTA, network.of_sound(media, 3, False)),
    ):
        result = kind(network, DEFAULTS, tokenizer).clip(media)
        assert result.value == pytest.approx(100 * side @ text, abs=1e-3) and result.facts == {"text_is_cut": False}
    media.text = "a ball " * 9
    assert ImageBindTA(network, DEFAULTS, tokenizer).clip(media).facts == {"text_is_cut": True}


@pytest.mark.parametrize(
    ("media", "settings", "reason"),
    [
        (clip(1.5), DEFAULTS, "shorter than 2 s"),
        (Cut(moving(12), 8.0, tone(3.0)), DEFAULTS, "12 frames; 2 s are needed"),
        (Cut(moving(12)[:0], 8.0, tone(3.0)), PUBLISHED, "0 frames; 2 s are needed"),
        (clip(sound=1.5), DEFAULTS, "sound shorter than 2 s"),
        (clip(fps=0.5, seconds=4), PUBLISHED, "0.5 frames per second; 1 are read"),
        (clip(loud=0), PUBLISHED, "silent"),
        (clip(sound=0.01), PUBLISHED, "sound shorter than 0.025 s"),
    ],
)
def test_refusals(media: ArrayMedia, settings: dict[str, Any], reason: str) -> None:
    assert ImageBindAV(encoder(), settings).clip(media).refused == reason


def test_as_published_short_clips_are_filled_up() -> None:
    assert np.isfinite(ImageBindAV(encoder(), PUBLISHED).clip(clip(1.5)).value or np.nan)


def test_only_what_moves_a_number_is_told() -> None:
    told = ImageBindAV(encoder()).preprocessing()
    assert told["video_clips"] == 5 and told["video"]["size"] == [28, 28] and told["audio"]["rate"] == 16000
    assert "pictures" not in told and json.dumps(told)
    tokenizer = TextTokenizer(None, 24)
    told = ImageBindTA(encoder(), {"audio_clips": 3, "published": False}, tokenizer).preprocessing()
    assert told["tokens"] == 24 and "video" not in told


def test_a_file_of_random_weights_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, source = tmp_path / "weights/imagebind.safetensors", save_pickle(tmp_path / "imagebind_huge.pth")
    convert(["to-safetensors", "--source", str(source), "--output", str(weights)])
    monkeypatch.setattr(imagebind_encoder, "ImageBind", lambda: ImageBind(SMALL))  # the published one has 4.8 GB
    write_clip(tmp_path / "clips/a.mp4", 1, seconds=2.5)
    write_clip(tmp_path / "clips/b.mp4", 2, seconds=1.0)
    names = ["imagebind_av", "imagebind_tv", "imagebind_ta", "javis_score_imagebind"]
    words = [str(tmp_path / "clips"), "--metrics", ",".join(names), "--device", "cpu"]
    words += ["--weights", f"imagebind={weights.parent}", "--weights", f"clip={save_clip(tmp_path / 'clip')}"]
    score([*words, "--output", str(tmp_path / "out")])
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())["metrics"]
    for name in names:
        result, most = metrics[name]["sets"]["clips"], 1 if name == "javis_score_imagebind" else 100
        assert result["n"] == 1 and -most <= result["clips"]["a"] <= most
        assert len(result["refused"]) == 1 and "shorter than 2 s" in next(iter(result["refused"]))
        assert len(metrics[name]["weights"]) == 64 and metrics[name]["preprocessing"]["published"] is False
    score([*words, "--set", "imagebind_av.published=1", "--output", str(tmp_path / "published")])
    again = json.loads((tmp_path / "published/metrics.json").read_text())["metrics"]
    assert again["imagebind_av"]["sets"]["clips"]["n"] == 2
    assert again["imagebind_av"]["preprocessing_hash"] != metrics["imagebind_av"]["preprocessing_hash"]
    assert again["imagebind_tv"]["sets"] == metrics["imagebind_tv"]["sets"]
