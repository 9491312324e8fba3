"""The joint model of a configuration: what cannot be trained is refused, the seed decides, copies stand apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import CONFIG, FRAMES, inputs, randomise

from ccl.training.build import JointAdapter, build_model, check_size
from shared.codecs import Codecs, LinearAudioCodec, LinearVideoCodec
from shared.nn.clock import LatentClock
from shared.training.card import Progress
from shared.training.components import Components, LazyTextEncoder
from shared.utils.config import TrainConfig
from shared.utils.errors import UserError
from shared.utils.rng import generator

COMPONENTS = Components(
    Codecs(LinearVideoCodec(latent_channels=4), LinearAudioCodec(latent_channels=5, iterations=1)),
    LazyTextEncoder(None),
    {},
)

OWN = ("in_channels", "text_dim")  # which the codecs and the text encoder decide
TOLD = {"video": {k: v for k, v in CONFIG["video"].items() if k not in OWN} | {"frame_rate": True}}


def config(model: dict[str, Any] | None = None, **changes: Any) -> TrainConfig:
    streams = {name: {k: v for k, v in CONFIG[name].items() if k not in OWN} for name in ("video", "audio")}
    raw = {"output": "out", "data": {"manifest": "clips", "fps": 8, "size": [32, 32]}, "train": {"steps": 3}}
    return TrainConfig.model_validate(raw | {"model": CONFIG | streams | (model or {})} | changes)


def saved(folder: Path, model: dict[str, Any] | None = None) -> JointAdapter:
    """A model whose zero-initialised weights are random, and its folder."""
    adapter = JointAdapter(config(model, train={"steps": 3, "export_dtype": "fp32"}), COMPONENTS)
    randomise(adapter.transformer)
    adapter.save(adapter.objective().state_dict(), folder, Progress(0))
    return adapter


def test_codecs_and_text_say_what_goes_in_and_the_seed_decides_the_weights() -> None:
    model = build_model(config(), COMPONENTS)
    assert model.video_stream.config.in_channels == 4 and model.audio_stream.config.in_channels == 5
    assert model.video_stream.config.text_dim == COMPONENTS.text.dim
    torch.manual_seed(5)
    again, other = build_model(config(), COMPONENTS), build_model(config(seed=1), COMPONENTS)
    assert all(value.equal(again.state_dict()[name]) for name, value in model.state_dict().items())
    assert not model.video_stream.patch_embedding.weight.equal(other.video_stream.patch_embedding.weight)
    with pytest.raises(UserError, match=r"model: .*'widht'.*; see configs/model/"):
        build_model(config({"widht": 3}), COMPONENTS)


def test_a_pipeline_of_a_run_stands_apart_from_the_model_in_training(tmp_path: Path) -> None:
    adapter = JointAdapter(config({"context_tokens": 2}, train={"steps": 3, "export_dtype": "fp32"}), COMPONENTS)
    weights = {name: value + 1 for name, value in adapter.objective().state_dict().items()}
    pipeline = adapter.pipeline(weights)
    before = adapter.transformer.video_stream.patch_embedding.weight
    assert torch.equal(pipeline.transformer.video_stream.patch_embedding.weight, before + 1)
    assert pipeline.video_codec is not COMPONENTS.codecs.video and pipeline.config.height == 32
    adapter.save(weights, tmp_path / "out", Progress(2))
    card = (tmp_path / "out/README.md").read_text()
    assert "# Joint audio-video checkpoint" in card and "| steps | 2 of 3 |" in card and "`clips`" in card


@pytest.mark.parametrize(
    ("model", "changes", "said"),
    [
        ({"routing": "joint"}, {}, "so t2v, t2a cannot be trained; give weights to t2av, a2v and v2a only"),
        ({"routing": "joint"}, {"tasks": {"mtv": 1, "t2av": 1}, "control": {}}, "so mtv cannot be trained"),
        (
            {"routing": "joint"},
            {"tasks": {"t2av": 1}, "detach_clean_stream": True},
            "with model.routing joint the given stream reads the other; set it false",
        ),
        ({"fusion": "gate"}, {}, "model: .*'gate'"),
    ],
)
def test_a_variant_that_cannot_learn_the_tasks_is_refused(model: dict, changes: dict, said: str) -> None:
    given = config(model, **changes)
    with pytest.raises(UserError, match=said):
        JointAdapter.check(given, [given])


def test_one_codec_alone_is_not_fitted(tmp_path: Path) -> None:
    COMPONENTS.codecs.video.save_pretrained(tmp_path / "video_codec")  # type: ignore[attr-defined]
    given = config(components={"video_codec": str(tmp_path)})
    with pytest.raises(UserError, match=r"components\.audio_codec: name the folder .*; a codec alone is not fitted"):
        JointAdapter.check(given, [given])
    shards = config(data={"shards": "latents"})
    with pytest.raises(UserError, match=r"components\.video_codec: name .*; none is fitted to data\.shards"):
        JointAdapter.check(shards, [shards])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": {"widht": 3}}, "model: .*'widht'.*; see configs/model/"),
        ({"model": {"fusion": "glue"}}, "model: fusion is 'glue'; choose one of"),
        ({"model": {"parts": ["music"]}}, "model: parts has 'music'; choose among speech, effects; see"),
        ({"model": {"audio": None}}, "model: .*; see configs/model/"),
        ({"control": {"tokns": 3}, "tasks": {"mtv": 1}}, "control: unknown key tokns; see"),
    ],
)
def test_settings_that_no_model_has_are_refused_before_anything_is_read(changes: dict[str, Any], said: str) -> None:
    told = config()
    model = {**told.model, **changes.get("model", {})}
    told = told.model_copy(update={**changes, "model": model})
    with pytest.raises(UserError, match=said):
        JointAdapter.check(told, [told])


@pytest.mark.parametrize(
    ("size", "stride", "said"),
    [
        ((36, 32), 8, r"\[36, 32\]: 36 does not fit; height and width go by 16x32"),
        ((32, 48), 8, "48 does not fit"),
        ((32, 32), 16, "go by 32x64"),
    ],
)
def test_a_size_of_no_whole_tokens_is_refused_before_encoding(size: tuple[int, int], stride: int, said: str) -> None:
    told = config({"video": {**CONFIG["video"], "patch_size": [1, 2, 4]}})
    check_size(told, 8)
    with pytest.raises(UserError, match=f"data.size .*{said}"):
        check_size(told.model_copy(update={"data": told.data.model_copy(update={"size": size})}), stride)


@torch.no_grad()
@pytest.mark.parametrize("key", ["init", "init_streams"])
def test_a_folder_without_a_frame_rate_or_refiner_goes_on_with_them_as_it_was(tmp_path: Path, key: str) -> None:
    """Only these may be lacking in the folder, and only there."""
    old, told = saved(tmp_path / "old"), {"video": TOLD["video"] | {"text_layers": 1}}
    new = JointAdapter(config(told, **{key: str(tmp_path / "old")}), COMPONENTS)
    sigma, (video, _) = torch.tensor([0.5, 0.7]), inputs()
    text = torch.randn(2, 3, COMPONENTS.text.dim, generator=generator(0, "tests", "text"))
    streams = [adapter.transformer.eval().video_stream for adapter in (old, new)]
    clock = LatentClock.causal_video(FRAMES, 24.0, 4)
    outputs = [stream(video.latents, sigma, text, clock) for stream in streams]
    assert torch.equal(*outputs) and outputs[0].std() > 0.1
    new.save(new.objective().state_dict(), tmp_path / "new", Progress(0))
    with pytest.raises(UserError, match=r"(rate_embedder|text_refiner)\..* is \[.*, and absent in the configuration"):
        build_model(config(**{key: str(tmp_path / "new")}), COMPONENTS)


def test_adapters_learn_with_the_window_and_frame_rate_of_the_folder_they_act_in(tmp_path: Path) -> None:
    """Their weights would not tell another; all other training may change both."""
    saved(tmp_path / "old")
    saved(tmp_path / "new", TOLD | {"window_from": "rates"})
    for folder, window, told in (("old", "counts", False), ("new", "rates", True)):
        for asked in ({}, TOLD | {"window_from": "rates"}, {"window_from": "counts"}):
            lora = {"rank": 2, "targets": ["attention"]}
            learns = config(asked, init=str(tmp_path / folder), lora=lora)
            model = JointAdapter(learns, COMPONENTS).transformer
            assert (model.config.window_from, model.video_stream.config.frame_rate) == (window, told)
    model = build_model(config(TOLD | {"window_from": "rates"}, init=str(tmp_path / "old")), COMPONENTS)
    assert (model.config.window_from, model.video_stream.config.frame_rate) == ("rates", True)


def test_one_direction_of_the_fusion_begins_anew(tmp_path: Path) -> None:
    start = build_model(config(seed=4), COMPONENTS)
    for name, value in start.named_parameters():
        if ".fusion." in name:
            torch.nn.init.normal_(value)
    start.save_pretrained(tmp_path / "transformer")
    again = build_model(config(init=str(tmp_path), reinit=["fusion.audio"]), COMPONENTS).state_dict()
    kept = {name for name, value in start.state_dict().items() if value.equal(again[name])}
    assert again.keys() - kept == {name for name in again if ".fusion.audio." in name}
    assert not any(again[name].any() for name in again if ".fusion.audio.to_out" in name)


def test_a_folder_without_parts_is_a_start_for_a_model_with_them(tmp_path: Path) -> None:
    plain = build_model(config(seed=4), COMPONENTS)
    plain.save_pretrained(tmp_path / "transformer")
    given = config({"parts": ["speech", "effects"]}, init=str(tmp_path), tasks={"part": 1.0})
    model = build_model(given, COMPONENTS)
    assert all(value.equal(model.state_dict()[name]) for name, value in plain.state_dict().items())
    assert model.part_embedding is not None and not any(p.any() for p in model.part_embedding.parameters())
    torch.nn.init.ones_(model.part_embedding.patch.weight)
    model.save_pretrained(tmp_path / "with/transformer")
    again = build_model(given.model_copy(update={"init": str(tmp_path / "with")}), COMPONENTS)
    assert again.part_embedding is not None and again.part_embedding.patch.weight.eq(1).all()
    fewer = config({"parts": ["speech"]}, init=str(tmp_path / "with"))
    with pytest.raises(UserError, match=r"part_embedding\.track\.weight is \[2, .*\], and \[1, .*make them agree"):
        build_model(fewer, COMPONENTS)
    streams = config({"parts": ["speech"]}, init_streams=str(tmp_path / "with"))
    assert build_model(streams, COMPONENTS).part_embedding is not None
