"""MTV's public weights, small and random, through scripts/convert.py into a folder, and sampled from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import CogVideoXDDIMScheduler
from mtvcraft import PREFIX, SMALL, Reference, small_public
from safetensors.torch import save_file
from small_cogvideox import save_folder
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from mtv.conversion import public_scheduler
from mtv.guidance import NOTHING, TrackGuidance
from mtv.mtvcraft import MTVCraftControl
from mtv.pipeline import MTVPipeline
from mtv.tracks import Tracks, features
from scripts.convert import main
from shared.utils.errors import UserError
from shared.utils.rng import derive, generator

FRAMES, RATE, SIDE, LAYERS, WIDTH = 13, 16000, 16, 2, 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """cogvideox/, wav2vec2/, one.safetensors and two.safetensors, and what was made of them."""
    path = tmp_path_factory.mktemp("public")
    save_folder(path / "cogvideox", CogVideoXDDIMScheduler())
    codec = path / "cogvideox/vae/config.json"
    codec.write_text(json.dumps(json.loads(codec.read_text()) | {"scaling_factor": 0.7}))
    sizes = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2, "num_attention_heads": 2}
    config = Wav2Vec2Config(
        hidden_size=WIDTH, num_hidden_layers=LAYERS, intermediate_size=16, conv_dim=(8,) * 7, **sizes
    )
    with torch.random.fork_rng():
        torch.manual_seed(derive(0, "test", "wav2vec2"))
        Wav2Vec2Model(config).save_pretrained(path / "wav2vec2")
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(path / "wav2vec2")
    for name, speakers in (("one", 1), ("two", 2)):
        save_file(small_public(speakers, features=5 * LAYERS * WIDTH), path / f"{name}.safetensors")
        main(words(path, name))
    return path


def words(path: Path, name: str, *more: str) -> list[str]:
    line = ["mtvcraft", "--source", path / f"{name}.safetensors", "--output", path / f"made {name}"]
    line += ["--cogvideox", path / "cogvideox", "--wav2vec2", path / "wav2vec2", "--size", SIDE, SIDE, *more]
    return [str(word) for word in line]


def pipeline(folder: Path) -> MTVPipeline:
    loaded = MTVPipeline.from_pretrained(folder)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def tracks() -> Tracks:
    speech, effects = (
        0.1 * torch.randn(1, round(FRAMES / 24 * RATE), generator=generator(0, "craft", name)) for name in ("a", "b")
    )
    return Tracks([speech], effects)


def test_the_folder_holds_the_public_network(folder: Path, capsys) -> None:
    pipe = pipeline(folder / "made one")
    assert isinstance(pipe.control, MTVCraftControl) and (pipe.config.fps, pipe.config.height) == (24, SIDE)
    public = small_public(features=5 * LAYERS * WIDTH)
    fused = public[f"{PREFIX}transformer.layers.1.attention.query_key_value.weight"]
    assert torch.equal(pipe.transformer.transformer_blocks[1].attn1.to_v.weight, fused[2 * SMALL["width"] :])
    own = public[f"{PREFIX}transformer.layers.1.audio_attn_effect.dense.bias"]
    assert torch.equal(pipe.control.layers[1].audio_attn_effect.dense.bias, own)
    main([*words(folder, "one"), "--dry-run", "--output", str(folder / "other")])
    told = capsys.readouterr().out
    assert "layers.N.attention.query_key_value.weight (2) -> transformer.transformer_blocks.N.attn1.to_q.weight" in told
    assert "left: a table of the rotation" in told and "new" not in told
    assert "transformer.layers.N.audio_music_adaLn.weight" in (folder / "made one/README.md").read_text()


def test_the_schedule_is_the_public_one() -> None:
    """√ᾱ of √β linear from 0.00085 to 0.012, moved and stretched so that the last is 0 and the first stays."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    root = (1 - betas).cumprod(0).sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    scheduler = public_scheduler()
    torch.testing.assert_close(scheduler.alphas_cumprod.double().sqrt(), root, rtol=0, atol=1e-6)
    scheduler.set_timesteps(50)
    assert scheduler.timesteps.tolist() == list(range(999, 0, -20))


def test_a_sample_takes_the_steps_of_the_public_network(folder: Path) -> None:
    """One step from the noise at t = 999, of text and tracks against neither, by the formulas alone."""
    pipe, given, states = pipeline(folder / "made one"), tracks(), []
    pipe(
        "a",
        given,
        num_inference_steps=2,
        window=FRAMES,
        callback_on_step_end=lambda *a: states.append(a[3]["video"].clone()),
    )
    public = Reference(small_public(features=5 * LAYERS * WIDTH), 1)
    noise = torch.randn(4, 4, SIDE // 4, SIDE // 4, generator=generator(0, "sample", "video"))
    read = features(given, dict.fromkeys(("speech", "effects", "music"), pipe.audio_encoder), FRAMES, 24.0)
    heard = [read["speech"][0], read["effects"], read["music"]]
    assert heard[2].any()  # silence is what wav2vec2 makes of it
    texts, predicted = pipe.text_encoder.encode(["a", ""]), []
    for text, sound in ((texts[0], heard), (texts[1], [torch.zeros_like(one) for one in heard])):
        speech, effects, music = (one.flatten(1) for one in sound)
        nowhere = torch.zeros(4, dtype=torch.bool)
        predicted.append(public.predict(noise.transpose(0, 1), 999, nowhere, text, [speech], effects, music))
    guided = predicted[1] + 3.5 * (predicted[0] - predicted[1])
    scheduler = public_scheduler()
    scheduler.set_timesteps(2)
    step = [generator(0, "sample", "video", "steps", 0)]
    expected = scheduler.step(
        guided[None], None, 999, None, noise.transpose(0, 1)[None], generator=step, return_dict=False
    )[0]
    torch.testing.assert_close(states[0].transpose(1, 2), expected, rtol=0, atol=1e-3)


def test_windows_go_on_and_what_these_weights_cannot_is_refused(folder: Path) -> None:
    pipe = pipeline(folder / "made two")  # one voice is given: the second person is silent
    video = pipe("a", tracks(), num_inference_steps=1, window=9).video
    assert video.shape == (1, FRAMES, SIDE, SIDE, 3)
    alone = TrackGuidance(text=2, speech=1)  # the text alone was dropped in training, too
    assert NOTHING not in alone.weights(0.5)
    pipe("a", tracks(), num_inference_steps=1, window=9, duration=9 / 24, guidance=alone)
    with pytest.raises(UserError, match=r"the speech scale of guidance: .* joint"):
        pipe("a", tracks(), num_inference_steps=1, guidance=TrackGuidance())
    with pytest.raises(UserError, match="this model has positions for 16x16 alone"):
        pipe("a", tracks(), num_inference_steps=1, height=32)
    with pytest.raises(UserError, match="49 frames is the longest"):
        long = Tracks([torch.zeros(1, 3 * RATE)])
        pipe("a", long, num_inference_steps=1, window=53)
    with pytest.raises(UserError, match=r"num_layers of CogVideoXTransformer3DModel is 2, and .* needs 3"):
        MTVPipeline.from_pipe(pipe, control=MTVCraftControl(**(dict(pipe.control.config) | {"num_blocks": 3})))


def test_another_cogvideox_is_refused(folder: Path, tmp_path: Path) -> None:
    save_folder(tmp_path / "cogvideox", CogVideoXDDIMScheduler())
    line = [word.replace(str(folder / "cogvideox"), str(tmp_path / "cogvideox")) for word in words(folder, "one")]
    with pytest.raises(UserError, match=r"scaling_factor of its vae is 1\.15\d*; these weights"):
        main(line)
    with pytest.raises(UserError, match="exists already"):
        main(words(folder, "one"))
