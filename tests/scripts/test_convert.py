"""scripts/convert.py on small random models that the other libraries saved: same outputs, and back to the bit."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from diffusers import AutoencoderKLWan, AutoencoderOobleck, UniPCMultistepScheduler, WanTransformer3DModel
from public import MODEL, OVI_MODEL, SMALL, original, small_ovi, small_wan
from safetensors.torch import load_file, save_file
from transformers import T5Tokenizer, UMT5Config, UMT5EncoderModel

from ccl.pipeline import CCLPipeline
from ccl.transformer import DualStreamTransformer
from scripts.convert import main
from shared.checkpoint.folder import load_checkpoint
from shared.nn.clock import LatentClock
from shared.nn.parameter_names import part_of
from shared.utils.errors import UserError
from shared.utils.rng import derive, generator

ROOT = Path(__file__).parents[2]
VAE = {"base_dim": 4, "num_res_blocks": 1, "z_dim": 4, "dim_mult": [1, 1, 2, 2]}
VAE |= {"latents_mean": [0.1, -0.2, 0.3, 0], "latents_std": [2, 1, 3, 4]}
OOBLECK = {"encoder_hidden_size": 4, "decoder_channels": 4, "decoder_input_channels": 5, "channel_multiples": [1, 2]}
OOBLECK |= {"downsampling_ratios": [2, 4], "sampling_rate": 800}


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Wan pipeline's folder, as diffusers and transformers save its parts."""
    path = tmp_path_factory.mktemp("public") / "Wan-Small-Diffusers"
    with torch.random.fork_rng():
        torch.manual_seed(derive(0, "test", "convert"))
        AutoencoderKLWan(**VAE).save_pretrained(path / "vae")
        config = UMT5Config(vocab_size=40, d_model=16, d_kv=4, d_ff=32, num_layers=1, num_heads=4)
        UMT5EncoderModel(config).save_pretrained(path / "text_encoder")
    words = ["▁", "▁a", "▁red", "▁ball", *"abcdefghijklmnopqrstuvwxyz<ö"]
    vocabulary = [(token, 0.0) for token in ("<pad>", "</s>", "<unk>")] + [(word, -2.0) for word in words]
    T5Tokenizer(vocab=vocabulary, extra_ids=0).save_pretrained(path / "tokenizer")
    UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0).save_pretrained(
        path / "scheduler"
    )
    small_wan().save_pretrained(path / "transformer", max_shard_size="150KB")
    (path / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Wan\n")
    return path


@pytest.fixture(scope="module")
def oobleck(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audio autoencoder with as many channels as no configuration here has, but for the one it sets."""
    path = tmp_path_factory.mktemp("oobleck")
    AutoencoderOobleck(**OOBLECK).save_pretrained(path / "vae")
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return configured(tmp_path_factory.mktemp("model") / "small.yaml", MODEL)


@pytest.fixture(scope="module")
def checkpoint(wan: Path, model: Path, oobleck: Path) -> Path:
    """The folder of the first conversion, which others start from."""
    output = wan.parent / "converted"
    run("wan", source=wan, model=model, audio_codec=oobleck, output=output, fps=8, shard_size="100KB")
    return output


def configured(path: Path, settings: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(settings))
    return path


def run(command: str, **options: Any) -> None:
    arguments = [command]
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        arguments += [flag] if value is True else [flag, *map(str, value if isinstance(value, list) else [value])]
    main(arguments)


def transformer(folder: Path) -> DualStreamTransformer:
    return DualStreamTransformer.from_pretrained(folder / "transformer").eval()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: value for file in folder.glob("*.safetensors") for name, value in load_file(file).items()}


@torch.no_grad()
def test_a_wan_folder_becomes_a_pipeline(wan: Path, checkpoint: Path) -> None:
    """Its own output, its own codec and text encoder, its own shift; what is new leaves the video as it was."""
    pipeline = load_checkpoint(CCLPipeline, checkpoint)
    assert (pipeline.config.fps, pipeline.config.height, pipeline.config.width) == (8.0, 480, 832)
    assert pipeline.scheduler.config.shift == pipeline.audio_scheduler.config.shift == 3.0
    assert pipeline.transformer.config.audio["in_channels"] == 5 == pipeline.audio_codec.latent_channels
    card = (checkpoint / "README.md").read_text()
    assert "video_stream" in card and "license: apache-2.0\n" in card  # its own card says so
    assert len(list((checkpoint / "transformer").glob("*.safetensors"))) > 3
    theirs = WanTransformer3DModel.from_pretrained(wan / "transformer").eval()
    latents = torch.randn(1, 4, 2, 4, 4, generator=generator(0, "test", "latents"))
    text = pipeline.text_encoder.encode(["a red ball"])
    expected = theirs(latents, torch.tensor([700.0]), text).sample
    assert expected.std() > 0.1
    clock = pipeline.video_codec.clock(5, 8.0)
    found = pipeline.transformer.denoise_video(latents, torch.tensor([0.7]), text, clock)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    made = pipeline("a red ball", duration=0.5, height=16, width=16, num_inference_steps=1)
    assert made.video.shape == (1, 4, 16, 16, 3) and made.audio.shape == (1, 400)


@torch.no_grad()
def test_a_wan_folder_with_a_frame_rate_is_that_wan_at_any(wan: Path, tmp_path: Path) -> None:
    """Its weights are new, zero, and accounted for; a stream that has them is none of Wan's any more."""
    settings = configured(tmp_path / "told.yaml", MODEL | {"video": SMALL | {"frame_rate": True}})
    run("wan", source=wan, model=settings, output=tmp_path / "out")
    ours, plain = transformer(tmp_path / "out"), WanTransformer3DModel.from_pretrained(wan / "transformer").eval()
    assert not ours.video_stream.condition_embedder.rate_embedder.weight.any()
    assert "zero: a public tower has one frame rate" in (tmp_path / "out/README.md").read_text()
    draw = generator(0, "test", "latents")
    latents, text = torch.randn(1, 4, 2, 4, 4, generator=draw), torch.randn(1, 3, 16, generator=draw)
    expected = plain(latents, torch.tensor([700.0]), text).sample
    for fps in (8.0, 24.0):
        clock = LatentClock.causal_video(2, fps, 4)
        found = ours.denoise_video(latents, torch.tensor([0.7]), text, clock)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    with pytest.raises(UserError, match=r"frame_rate true.*cannot hold these weights"):
        run("export-wan", checkpoint=tmp_path / "out", output=tmp_path / "back")


@torch.no_grad()
@pytest.mark.parametrize("layout", ["diffusers", "original"])
def test_both_layouts_and_both_timesteps_give_wans_output(layout: str, tmp_path: Path, model: Path) -> None:
    """2.1: a timestep per sample, 4 channels. 2.2: one per token (here per latent frame), 6 channels."""
    for channels in (4, 6):
        theirs, source = small_wan(in_channels=channels), tmp_path / f"wan{channels}"
        theirs.save_pretrained(source)
        if layout == "original":
            source = source / "alone.safetensors"
            save_file(original(theirs.state_dict()), source)
        settings = configured(tmp_path / "m.yaml", MODEL | {"video": SMALL | {"in_channels": channels}})
        run("wan", source=source, model=settings, output=tmp_path / f"out{channels}")
        ours = transformer(tmp_path / f"out{channels}").video_stream
        latents = torch.randn(1, channels, 3, 4, 4, generator=generator(0, "test", "latents"))
        text, sigma = torch.randn(1, 5, 16, generator=generator(0, "test", "text")), torch.tensor([[0.0, 0.4, 0.9]])
        times = sigma[:, 1] * 1000 if channels == 4 else sigma.repeat_interleave(4, dim=1) * 1000
        found = ours(latents, sigma[:, 1] if channels == 4 else sigma, text)
        torch.testing.assert_close(found, theirs(latents, times, text).sample, rtol=0, atol=1e-5)


def test_the_way_back_is_exact(wan: Path, checkpoint: Path, tmp_path: Path) -> None:
    run("export-wan", checkpoint=checkpoint, output=tmp_path / "back", dry_run=True)
    assert not (tmp_path / "back").exists()
    run("export-wan", checkpoint=checkpoint, output=tmp_path / "back", shard_size="200KB")
    before, after = weights(wan / "transformer"), weights(tmp_path / "back")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    theirs = WanTransformer3DModel.from_pretrained(tmp_path / "back", output_loading_info=True)[1]
    assert not theirs["missing_keys"] and not theirs["unexpected_keys"]
    configs = [json.loads((path / "config.json").read_text()) for path in (wan / "transformer", tmp_path / "back")]
    assert configs[0] == configs[1]


def test_half_precision_stays_and_can_be_asked_for(wan: Path, model: Path, tmp_path: Path) -> None:
    halves = {name: value.bfloat16() for name, value in original(small_wan().state_dict()).items()}
    save_file(halves, tmp_path / "wan.safetensors")
    run("wan", source=tmp_path / "wan.safetensors", model=model, output=tmp_path / "kept")
    kept = weights(tmp_path / "kept" / "transformer")
    assert {value.dtype for name, value in kept.items() if part_of(name) == "video_stream"} == {torch.bfloat16}
    run("export-wan", checkpoint=tmp_path / "kept", output=tmp_path / "back")
    assert all(torch.equal(v, halves[n]) for n, v in original(weights(tmp_path / "back")).items())
    run("wan", source=wan, model=model, output=tmp_path / "half", dtype="bfloat16")
    half = weights(tmp_path / "half" / "transformer")
    assert half["blocks.0.video.scale_shift_table"].dtype == torch.float32
    assert half["blocks.0.audio.attn1.to_q.weight"].dtype == torch.bfloat16


def test_the_audio_tower_of_a_checkpoint_is_taken(
    wan: Path, model: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("wan", source=wan, model=model, output=tmp_path / "second", audio=checkpoint, seed=9)
    printed = capsys.readouterr().out
    assert "from the audio tower of converted" in printed and "only its audio tower is wanted" in printed
    first, second = (weights(folder / "transformer") for folder in (checkpoint, tmp_path / "second"))
    assert all(torch.equal(first[name], second[name]) for name in first if part_of(name) != "fusion")
    name = "blocks.1.fusion.video.to_q.weight"
    assert not torch.equal(first[name], second[name])  # another seed
    assert load_checkpoint(CCLPipeline, tmp_path / "second").audio_codec.latent_channels == 5
    other = MODEL | {"audio": MODEL["audio"] | {"time_unit": 0.5}}
    with pytest.raises(UserError, match=r"time_unit is 0\.04, and audio\.time_unit 0\.5"):
        run("wan", source=wan, model=configured(tmp_path / "m.yaml", other), output=tmp_path / "no", audio=checkpoint)


@torch.no_grad()
def test_ovi_becomes_cca_and_the_full_baseline(wan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = small_ovi()
    save_file(theirs, tmp_path / "model.safetensors")
    settings = configured(tmp_path / "ovi.yaml", OVI_MODEL)
    video = {n.removeprefix("video_model."): v for n, v in theirs.items() if n.startswith("video_model.")}
    video = {n.replace("modulation.modulation", "modulation"): v for n, v in video.items() if "fusion" not in n}
    tower = small_wan()
    tower.load_state_dict({n: video[o] for n, o in zip(tower.state_dict(), original(tower.state_dict()), strict=True)})
    latents = torch.randn(1, 4, 2, 4, 4, generator=generator(0, "test", "latents"))
    text = torch.randn(1, 5, 16, generator=generator(0, "test", "text"))
    expected = tower(latents, torch.tensor([700.0]), text).sample
    for into in ("cca", "full"):
        output = tmp_path / into
        run("ovi", source=tmp_path / "model.safetensors", model=settings, output=output, into=into, video_codec=wan)
        ours = transformer(output)
        assert ours.config.fusion == into
        found = ours.video_stream(latents, torch.tensor([0.7]), text)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        key = theirs["audio_model.blocks.1.cross_attn.k_fusion.weight"]
        assert torch.equal(ours.blocks[1].fusion.audio.to_k.weight, key)
        assert not ours.audio_stream.proj_out.weight.any() and ours.audio_stream.patch_embedding.weight.any()
        card = (output / "README.md").read_text()
        assert (
            "license: other\n" in card
            and "audio codec (MMAudio, 16 kHz" in card
            and "audio_model.patch_embedding" in card
        )
        assert json.loads((output / "model_index.json").read_text())["audio_codec"] == [None, None]
    assert "no audio codec; --audio-codec FOLDER" in capsys.readouterr().out


def test_a_dry_run_writes_nothing(wan: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("wan", source=wan, model=model, output=tmp_path / "out", dry_run=True)
    printed = capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    assert (
        "new: no audio tower given" in printed and "video codec: WanVideoCodec from Wan-Small-Diffusers/vae" in printed
    )


def test_sizes(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("sizes", model=model)
    expected = sum(p.numel() for p in DualStreamTransformer(**MODEL).parameters())
    assert f"{expected:,}" in capsys.readouterr().out.splitlines()[-1]


def test_a_pickle_is_turned_first(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(original(small_wan().state_dict()), tmp_path / "wan.pth")
    with pytest.raises(UserError, match=r"to-safetensors --source wan\.pth"):
        run("wan", source=tmp_path / "wan.pth", model=model, output=tmp_path / "out")
    run("to-safetensors", source=tmp_path / "wan.pth", output=tmp_path / "wan.safetensors")
    run("wan", source=tmp_path / "wan.safetensors", model=model, output=tmp_path / "out", dry_run=True)
    assert "heads and eps are taken from" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"a new file that ends in \.safetensors"):
        run("to-safetensors", source=tmp_path / "wan.pth", output=tmp_path / "wan.safetensors")
    with pytest.raises(UserError, match="no such file"):
        run("to-safetensors", source=tmp_path / "none.pth", output=tmp_path / "new.safetensors")


def test_what_is_wrong_is_said_and_nothing_left(wan: Path, model: Path, tmp_path: Path, oobleck: Path) -> None:
    given = {"source": wan, "model": model, "output": tmp_path / "out"}
    ovi = configured(tmp_path / "ovi.yaml", MODEL)
    joined = configured(tmp_path / "gate.yaml", OVI_MODEL | {"fusion": "gate_hard"})
    other = configured(tmp_path / "other.yaml", MODEL | {"video": SMALL | {"ffn_dim": 72}})
    wide = configured(tmp_path / "wide.yaml", MODEL | {"video": SMALL | {"in_channels": 6}})
    words = configured(tmp_path / "text.yaml", MODEL | {"audio": MODEL["audio"] | {"text_dim": 12}})
    bare = configured(tmp_path / "bare.yaml", {"video": {}, "audio": {}})
    strange = configured(tmp_path / "strange.yaml", MODEL | {"fusion": "glue"})
    save_file(small_ovi(), tmp_path / "ovi.safetensors")
    fused = given | {"source": tmp_path / "ovi.safetensors"}
    for command, options, said in (
        ("wan", given | {"source": tmp_path / "none"}, "none: no such file or folder"),
        ("wan", given | {"model": tmp_path / "none.yaml"}, r"--model .*none\.yaml: cannot be read"),
        ("wan", given | {"model": bare}, r"video\.in_channels is missing"),
        ("wan", given | {"model": strange}, r"strange\.yaml: fusion is 'glue'"),
        ("wan", given | {"model": other}, r"ffn_dim is 64, and video\.ffn_dim 72 in the model"),
        ("wan", given | {"model": wide}, r"WanVideoCodec has 4 values, and video\.in_channels is 6"),
        ("wan", given | {"model": words}, r"UMT5Text has 16 values, and audio\.text_dim is 12"),
        (
            "wan",
            given | {"audio_codec": wan},
            "holds AutoencoderKLWan; one of LinearAudioCodec, AutoencoderKLLTX2Audio, AutoencoderOobleck is needed",
        ),
        (
            "wan",
            given | {"video_codec": oobleck},
            "holds AutoencoderOobleck; one of LinearVideoCodec, .*AutoencoderKLWan, .* is needed",
        ),
        ("wan", given | {"audio": wan}, r"model_index\.json is missing"),
        ("wan", given | {"output": wan}, "exists already"),
        ("wan", given | {"shift": "0"}, "--shift 0,0: positive"),
        ("wan", given | {"size": [0, 16]}, "--size 0: Input should be greater than or equal to 1"),
        ("wan", given | {"shard_size": "many"}, "--shard-size many: a whole number"),
        ("wan", given | {"source": tmp_path / "ovi.safetensors"}, "without a place in the model"),
        ("ovi", fused | {"model": ovi, "into": "cca"}, "--into cca: .* has cca_heads 1 of 12"),
        ("ovi", fused | {"model": joined, "into": "full"}, "has fusion: gate_hard"),
        ("ovi", given | {"source": wan / "transformer", "into": "full"}, "a fused checkpoint of Ovi is needed"),
        ("export-wan", {"checkpoint": wan, "output": tmp_path / "out"}, r"model_index\.json is missing"),
    ):
        with pytest.raises(UserError, match=said):
            run(command, **options)
    assert not [path for path in tmp_path.iterdir() if path.suffix not in (".yaml", ".safetensors")]


def test_a_damaged_component_leaves_nothing(wan: Path, model: Path, tmp_path: Path) -> None:
    """What is only found when a part is loaded."""
    source = tmp_path / "wan"
    shutil.copytree(wan, source)
    file = source / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match=r"diffusion_pytorch_model\.safetensors is damaged"):
        run("wan", source=source, model=model, output=tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["wan"]


@pytest.mark.parametrize(
    "words",
    [["wan", "--help"], ["wan", "--sorce", "x"], ["export-wan", "--checkpoint", "none", "--output", "x"],
     ["wan", "--source", "none", "--model", "configs/model/wan2.1-1.3b.yaml", "--output", "x"]],
)  # fmt: skip
def test_options_and_files_are_checked_before_torch_is_loaded(words: list[str]) -> None:
    code = (
        "import sys; from scripts.convert import main\n"
        f"try: main({words!r})\n"
        "except (SystemExit, ValueError): print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_a_conversion_says_what_it_is_asked_to_and_no_more(
    wan: Path, model: Path, oobleck: Path, tmp_path: Path
) -> None:
    """In a process of its own, in which libraries say for the first time what they say once."""
    words = ["wan", "--source", wan, "--model", model, "--audio-codec", oobleck, "--output", tmp_path / "out"]
    command = [sys.executable, "scripts/convert.py", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stderr == "" and "accelerator" not in done.stdout
    found, heads = done.stdout.splitlines()[:2]
    assert "transformer: " in found and heads.split() == ["part", "tensors", "values"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_of_the_source_that_is_not_finite_is_refused_by_name(
    bad: float, wan: Path, model: Path, tmp_path: Path
) -> None:
    source = shutil.copytree(wan, tmp_path / "wan")
    name = "blocks.1.ffn.net.2.weight"
    for file in (source / "transformer").glob("*.safetensors"):
        tensors = load_file(file)
        if name in tensors:
            tensors[name][3, 2] = bad
            save_file(tensors, file, metadata={"format": "pt"})
    said = pytest.raises(UserError, match=f"wan: the weight {name} holds NaN or infinity; copy it again")
    with said:
        run("wan", source=source, model=model, output=tmp_path / "out", dtype="bfloat16")
    assert [path.name for path in tmp_path.iterdir()] == ["wan"]


def test_a_pickle_with_a_weight_that_is_not_finite_is_refused_by_name(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.zeros(3), "b": torch.tensor([1.0, float("nan")])}}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"a\.pth: the weight b holds NaN or infinity"):
        run("to-safetensors", source=tmp_path / "a.pth", output=tmp_path / "a.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


def test_adapters_go_to_another_layout_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layers = {f"lora_unet_blocks_{i}_{name}": rank for i in (0, 1) for name, rank in (("self_attn_q", 2), ("ffn_2", 3))}
    tensors = {f"{name}.alpha": torch.tensor(1.5) for name in layers}
    for name, rank in layers.items():
        tensors[f"{name}.lora_down.weight"] = torch.randn(rank, 5, generator=generator(0, "test", name))
        tensors[f"{name}.lora_up.weight"] = torch.randn(4, rank, generator=generator(1, "test", name))
    save_file(tensors, tmp_path / "musubi.safetensors")
    places = {"ours": "ours", "original": "wan.safetensors", "peft": "peft", "diffusers": "diffusers"}
    source = tmp_path / "musubi.safetensors"
    for layout, name in places.items():  # each from the one before
        run("lora", source=source, layout=layout, output=tmp_path / name)
        told = capsys.readouterr().out
        assert "4 layers of rank 2, 3, layout " in told and f"written to {tmp_path / name}, layout {layout}" in told
        source = tmp_path / name
    run("lora", source=source, layout="musubi", output=tmp_path / "back.safetensors")
    back = load_file(tmp_path / "back.safetensors")
    assert back.keys() == tensors.keys() and all(torch.equal(back[name], value) for name, value in tensors.items())
    run("lora", source=source, layout="ours", output=tmp_path / "half", dtype="float16")
    assert {value.dtype for value in load_file(tmp_path / "half/pytorch_lora_weights.safetensors").values()} == {
        torch.float16
    }


@pytest.mark.parametrize(
    ("name", "layout", "output", "said"),
    [
        ("blocks.0.video.attn1.to_q", "original", "out", "original is one file; give a name that ends in .safetensors"),
        ("blocks.0.video.attn1.to_q", "peft", "out.safetensors", "peft is a folder; give a name without"),
        ("blocks.0.video.attn1.to_q", "ours", ".", "exists already"),
        (
            "blocks.0.audio.attn1.to_q",
            "musubi",
            "out.safetensors",
            r"blocks\.0\.audio\.attn1\.to_q is no layer of a Wan",
        ),
        ("video_stream.proj_out", "musubi", "out.safetensors", r"video_stream\.proj_out is outside the blocks"),
    ],
)
def test_adapters_that_a_layout_cannot_hold(tmp_path: Path, name: str, layout: str, output: str, said: str) -> None:
    pair = {f"transformer.{name}.lora_{side}.weight": torch.ones(2, 2) for side in "AB"}
    save_file(pair, tmp_path / "lora.safetensors")
    with pytest.raises(UserError, match=said):
        run("lora", source=tmp_path / "lora.safetensors", layout=layout, output=tmp_path / output)
    assert [file.name for file in tmp_path.iterdir()] == ["lora.safetensors"]
