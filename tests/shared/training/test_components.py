"""The parts of a run that are not trained: where they come from, and when the text encoder is in memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from shared.codecs import LinearAudioCodec, LinearVideoCodec
from shared.encoders import HashedWords
from shared.training.components import (
    Components,
    LazyTextEncoder,
    UnloadedTextEncoder,
    component_source,
    fitted_codecs,
)
from shared.utils.config import TrainConfig
from shared.utils.distributed import World
from shared.utils.errors import UserError

WORLD = World(0, 1, torch.device("cpu"))


def config(output: Path, **changes: object) -> TrainConfig:
    return TrainConfig(output=str(output), model={}, data={"manifest": "none"}, train={"steps": 1}, **changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with components of all three kinds, and a pair of codecs of other sizes in other/."""
    for where, channels in ((tmp_path, 4), (tmp_path / "other", 6)):
        LinearVideoCodec(latent_channels=channels).save_pretrained(where / "video_codec")
        LinearAudioCodec(latent_channels=channels, iterations=1).save_pretrained(where / "audio_codec")
    HashedWords(dim=16).save_pretrained(tmp_path / "text_encoder")
    return tmp_path


def test_each_component_comes_from_the_nearest_place_that_is_named(folder: Path) -> None:
    def root(name: str, **changes: object) -> str | None:
        source = component_source(config(folder, **changes), name)
        return None if source is None else source.root

    assert root("video_codec") is root("text_encoder") is None
    both = {"codecs": str(folder / "other"), "init": str(folder)}
    assert root("video_codec", **both) == str(folder / "other")
    assert root("text_encoder", **both) == str(folder)  # codecs name codecs alone
    assert root("video_codec", components={"video_codec": str(folder)}, **both) == str(folder)
    with pytest.raises(UserError, match=r"^codecs: .*; fit a pair with scripts/fit_codecs\.py$"):
        root("video_codec", codecs=str(folder / "nowhere"))


def test_codecs_are_the_named_or_the_fitted_ones(folder: Path) -> None:
    named = Components.load(config(folder, codecs=str(folder / "other")))
    assert (named.codecs.video.latent_channels, named.codecs.audio.latent_channels) == (6, 6)
    assert named.encoders == {} and named.text.dim == 128
    (folder / "run").mkdir()
    for name in ("video_codec", "audio_codec"):
        (fitted_codecs(config(folder / "run")) / name).parent.mkdir(exist_ok=True)
        (folder / name).rename(fitted_codecs(config(folder / "run")) / name)
    fitted = Components.load(config(folder / "run", control={}))
    assert fitted.codecs.video.latent_channels == 4 and set(fitted.encoders) == {"speech", "effects", "music"}
    assert fitted.encoders["speech"] is fitted.encoders["music"]  # of one name


def test_hashed_words_need_no_cache(folder: Path, tmp_path: Path) -> None:
    text = LazyTextEncoder(None)
    assert text.is_embedded and text.cached(["a"], tmp_path / "texts", WORLD) is text.load()
    saved = LazyTextEncoder(component_source(config(folder, init=str(folder)), "text_encoder"), torch.bfloat16)
    assert saved.is_embedded and saved.dim == 16 and saved.dtype_name == "bf16" and text.dtype_name == "fp32"
    assert not (tmp_path / "texts").exists()


def test_another_encoder_leaves_its_embeddings_and_no_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.training.components.gather", lambda value: [value])
    text = LazyTextEncoder(component_source(config(folder, init=str(folder)), "text_encoder"))
    words = text.load()
    monkeypatch.setattr(LazyTextEncoder, "is_embedded", False)
    monkeypatch.setattr(LazyTextEncoder, "load", lambda self: HashedWords(dim=16))
    cached = text.cached({"a bell", ""}, tmp_path / "texts", WORLD)
    assert torch.equal(cached.encode(["", "a bell"]), words.encode(["", "a bell"]))
    assert isinstance(cached.encoder, UnloadedTextEncoder) and cached.dim == 16
    with pytest.raises(UserError, match="the text cache has lost 'a horn'; start again"):
        cached.encode(["a horn"])
