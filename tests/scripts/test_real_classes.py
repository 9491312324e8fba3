"""A whole pipeline of real classes, small and random, each saved by its own library: clips to shards to mp4."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import sample_joint
import sample_mtv
import torch
import yaml
from public import save_small_parts
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from scripts.encode import main as encode
from scripts.make_puppets import main as make_puppets
from shared.data.manifest import read_manifest
from shared.data.media import probe
from shared.utils.rng import derive

ROOT = Path(__file__).parents[2]

FPS = 8
TRAIN = """
import json, sys
sys.path.insert(0, "scripts")
import train_ccl
from shared.utils.distributed import session
with session():
    for argv in json.loads(sys.argv[1]):
        train_ccl.main(argv)
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """wan/ with vae, text_encoder and tokenizer, ltx/ with audio_vae and vocoder, and wav2vec2/."""
    path = tmp_path_factory.mktemp("models")
    save_small_parts(path / "wan", path / "ltx")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    sizes |= {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
    with torch.random.fork_rng():
        torch.manual_seed(derive(0, "test", "wav2vec2"))
        Wav2Vec2Model(Wav2Vec2Config(**sizes)).save_pretrained(path / "wav2vec2")
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(path / "wav2vec2")
    return path


@pytest.fixture(scope="module")
def trained(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """clips/ of the stage, shards/ of them, run/ from the shards, clips_run/ from the clips, on from its checkpoint."""
    folder = tmp_path_factory.mktemp("real")
    make_puppets(["--clips", "3", "--output", str(folder / "clips"), "--seed", "5", "--size", "32", "--workers", "1"])
    sources = {"video_codec": models / "wan", "audio_codec": models / "ltx", "text_encoder": models / "wan"}
    speech = f"wav2vec2:{models / 'wav2vec2'}"
    options = [part for name, place in sources.items() for part in (f"--{name.replace('_', '-')}", str(place))]
    options += ["--text-dtype", "bf16", "--fps", str(FPS), "--size", "32", "32", "--duration", "0.75", "--tracks"]
    options += ["--track-encoders", f"{speech},log-mel,log-mel", "--output", str(folder / "shards")]
    encode(["--manifest", str(folder / "clips"), *options])
    stream = {"num_attention_heads": 1, "attention_head_dim": 12, "num_layers": 1, "ffn_dim": 16}
    common = {"fps": FPS, "size": [32, 32], "sample_rate": 24000, "duration": 0.75}
    config = {
        "output": str(folder / "run"),
        "model": {"video": stream, "audio": stream, "cca_heads": 1, "cca_head_dim": 12, "context_tokens": 2},
        "control": {"token_dim": 8, "tokens": 2, "interaction_blocks": 1, "heads": 2, "ffn_dim": 8, "hidden_dim": 8},
        "components": {**{name: str(place) for name, place in sources.items()}, "text_dtype": "bf16"},
        "data": {"shards": str(folder / "shards"), **common},
        "tracks": {"encoders": {"speech": speech, "effects": "log-mel", "music": "log-mel"}},
        "train": {"steps": 5, "micro_batch": 2, "log_every": 1},
        "tasks": {"t2av": 1.0, "mtv": 1.0},
    }
    (folder / "shards.yaml").write_text(yaml.safe_dump(config))
    config |= {"data": {"manifest": str(folder / "clips"), **common}, "output": str(folder / "clips_run")}
    config |= {"train": {"steps": 1, "micro_batch": 2}, "init": str(folder / "run/checkpoint")}
    config["components"] = {"text_dtype": "bf16"}  # all else is the checkpoint's
    (folder / "clips.yaml").write_text(yaml.safe_dump(config))
    lines = json.dumps([["--config", str(folder / f"{name}.yaml")] for name in ("shards", "clips")])
    done = subprocess.run([sys.executable, "-c", TRAIN, lines], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_checkpoint_holds_the_real_classes(trained: Path) -> None:
    for run in ("run", "clips_run"):
        index = json.loads((trained / run / "checkpoint/model_index.json").read_text())
        found = {name: kind[1] for name, kind in index.items() if isinstance(kind, list)}
        assert found["video_codec"] == "WanVideoCodec" and found["audio_codec"] == "LTX2AudioCodec"
        assert found["text_encoder"] == "UMT5Text" and found["audio_encoder"] == "Wav2Vec2Features"
    with open(trained / "run/losses.csv") as file:
        assert {(row["step"], row["task"]) for row in csv.DictReader(file)} >= {("5", "t2av"), ("5", "mtv")}
    assert not (trained / "run/codecs").exists() and not (trained / "run/latents").exists()
    assert list((trained / "clips_run/latents/texts").glob("*/*.safetensors"))  # all texts, encoded before training


def test_both_scripts_sample_from_it(trained: Path) -> None:
    checkpoint, sound = str(trained / "run/checkpoint"), str(read_manifest(trained / "clips")[0].audio)
    common = ["--checkpoint", checkpoint, "--prompt", "a bell", "--steps", "2", "--duration", "0.75"]
    sample_joint.main([*common, "--output", str(trained / "joint.mp4")])
    sample_mtv.main([*common, "--effects", sound, "--output", str(trained / "driven.mp4")])
    for name in ("joint", "driven"):
        info = probe(trained / f"{name}.mp4")
        assert (info.width, info.height, info.fps) == (32, 32, FPS) and info.has_audio
    assert os.path.getsize(trained / "joint.mp4") > 500
