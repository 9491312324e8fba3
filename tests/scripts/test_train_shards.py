"""Training from latent shards: the losses of training from the clips themselves, exact resume, broken records.

The runs share one process group in a process of their own, as those of test_train_ccl.py.
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import train_ccl
import train_mtv
import yaml
from driven_runs import driven
from object_server import serving
from safetensors.torch import load_file

from ccl.training.data import TrainingData
from scripts.encode import main as encode
from shared.data.media import write_video
from shared.data.shards import ShardedLatents
from shared.encoders import HashedWords
from shared.utils.errors import UserError, run_main

ROOT = Path(__file__).parents[2]

FPS, NAMES = 8, ["speech", "effects", "music"]


def write_clip(folder: Path, index: int, seconds: float = 1.0, fps: int = FPS) -> dict:
    """32x32 at 8 fps with tracks, the second clip with two speakers; some lines of MTV's template."""
    rng, samples, frames = np.random.default_rng(index), round(16000 * seconds), round(fps * seconds)
    names = NAMES if index != 1 else ["speech1", "speech2", "effects", "music"]
    tracks = {name: (0.2 * rng.standard_normal(samples)).astype(np.float32) for name in names}
    for name, sound in tracks.items():
        soundfile.write(folder / f"{index}.{name}.wav", sound, 16000, subtype="FLOAT")
    pictures = np.kron(rng.integers(0, 255, (frames, 4, 4, 3)), np.ones((1, 8, 8, 1))).astype(np.uint8)
    write_video(folder / f"{index}.mp4", pictures, fps, sum(tracks.values())[None], 16000)
    return {
        "id": f"clip{index}",
        "video": f"{index}.mp4",
        "caption": f"Person1: A red puppet. Person1 is speaking. Scene description: Stage {index}.",
        "audio_caption": f"Noise {index}.",
        "tracks": {name: f"{index}.{name}.wav" for name in names},
        "subsets": ["face"] if index < 2 else ["crowd"],
    }


@pytest.fixture(scope="module")
def folder(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five clips in two lengths, shards/ of them, plain/ without tracks and keyframe latents, and configurations."""
    folder = tmp_path_factory.mktemp("shards")
    lines = [json.dumps(write_clip(folder, index, 0.75 if index == 4 else 1.0)) for index in range(5)]
    (folder / "manifest.jsonl").write_text("\n".join(lines))
    common = ["--manifest", str(folder / "manifest.jsonl"), "--checkpoint", str(checkpoint), "--shard-clips", "2"]
    encode([*common, "--output", str(folder / "shards"), "--tracks", "--keyframe-latents", "--part-latents"])
    encode([*common, "--output", str(folder / "plain")])
    line = json.dumps(write_clip(folder, 5))
    (folder / "wide.jsonl").write_text(line)
    wide = ["--manifest", str(folder / "wide.jsonl"), "--checkpoint", str(checkpoint), "--shard-clips", "2"]
    extras = ["--tracks", "--keyframe-latents", "--part-latents"]
    encode([*wide, "--output", str(folder / "wide"), *extras, "--size", "16", "48"])
    faster = [json.dumps(write_clip(folder, index, fps=12)) for index in (6, 7)]
    (folder / "rates.jsonl").write_text("\n".join([*lines[:3], *faster]))
    rates = ["--manifest", str(folder / "rates.jsonl"), "--checkpoint", str(checkpoint), "--shard-clips", "2"]
    encode([*rates, "--output", str(folder / "rates"), *extras, "--keep-fps"])
    HashedWords(dim=16).save_pretrained(folder / "other_words")
    stream = {"num_attention_heads": 1, "attention_head_dim": 12, "num_layers": 1, "ffn_dim": 16}
    config = {
        "model": {"video": stream, "audio": stream, "cca_heads": 1, "cca_head_dim": 12, "context_tokens": 2},
        "control": {"token_dim": 8, "tokens": 2, "interaction_blocks": 1, "heads": 2, "ffn_dim": 8, "hidden_dim": 8},
        "data": {"shards": str(folder / "shards"), "fps": FPS, "size": [32, 32]},
        "codecs": str(checkpoint),
        "optimizer": {"warmup": 0, "lr": 1e-2},
        "keyframes": 0.5,
    }
    train = {"micro_batch": 4, "checkpoint_every": 2, "log_every": 1, "ema": 0.5, "export_dtype": "fp32"}
    tasks = {"mtv": 1.0, "t2av": 1.0, "part": 1.0}
    tracks = {"drop_speaker_prob": 0.5}
    joint = {**config, "output": str(folder / "run"), "train": {"steps": 3, **train}, "tasks": tasks, "tracks": tracks}
    joint |= {"model": {**config["model"], "parts": ["speech", "effects"]}, "clean_spans": 0.5}
    stages = [{"name": name, "subset": name, "steps": 1} for name in ("face", "crowd")]
    (folder / "ccl.yaml").write_text(yaml.safe_dump(joint))
    (folder / "mtv.yaml").write_text(
        yaml.safe_dump({**config, "output": str(folder / "stages"), "train": train, "stages": stages})
    )
    return folder


def arguments(folder: Path, config: str, *overrides: str) -> list[str]:
    line = ["--config", str(folder / f"{config}.yaml")]
    return line + [part for override in overrides for part in ("--set", override)]


def broken_copy(folder: Path) -> str:
    """Shards in which the latents of one record are damaged; its id."""
    shutil.copytree(folder / "shards", folder / "broken")
    store = ShardedLatents(folder / "broken")
    shard, record = store.places["clip2"]
    offset, size, _ = record.members["latents"]
    content = bytearray(shard.path.read_bytes())
    content[offset + size - 4 : offset + size] = b"\xff\xff\xff\xff"
    shard.path.write_bytes(content)
    return record.id


@pytest.fixture(scope="module")
def runs(folder: Path) -> dict[str, tuple[int | str, str]]:
    """Exit code and stderr of each run."""
    broken_copy(folder)
    cut = f"output={folder / 'cut'}"
    own = (
        "data={manifest: "
        + str(folder / "manifest.jsonl")
        + f", fps: {FPS}, size: [32, 32], latents_dtype: float16"
        + "}"
    )
    mixed = ["data.keep_fps=true", "train={steps: 4, micro_batch: null, token_budget: 80, log_every: 1, "
             "gradient_accumulation_steps: 2, checkpoint_every: 1, ema: 0.5, export_dtype: fp32}"]  # fmt: skip
    clips = own.replace("manifest.jsonl", "rates.jsonl")
    slow = [clips, *mixed, f"output={folder / 'rates_cut'}"]
    lines = [
        ("rates", "ccl", arguments(folder, "ccl", f"data.shards={folder / 'rates'}", *mixed,
                                   f"output={folder / 'rates_run'}"), None),
        ("rates_cut", "ccl", arguments(folder, "ccl", *slow), 2),
        ("rates_resumed", "ccl", arguments(folder, "ccl", *slow), None),
        ("shards", "ccl", arguments(folder, "ccl"), None),
        ("clips", "ccl", arguments(folder, "ccl", own, f"output={folder / 'clips_run'}"), None),
        ("cut", "ccl", arguments(folder, "ccl", cut), 2),
        ("resumed", "ccl", arguments(folder, "ccl", cut), None),
        ("broken", "ccl", arguments(folder, "ccl", f"data.shards=[{folder / 'broken'}]",
                                    f"output={folder / 'broken_run'}"), None),
        ("sizes", "ccl", arguments(folder, "ccl", f"data.shards=[{folder / 'shards'}, {folder / 'wide'}]",
                                   "train.token_budget=40", f"output={folder / 'sizes_run'}"), None),
        ("stages", "mtv", arguments(folder, "mtv"), None),
        ("words", "ccl", arguments(folder, "ccl", f"components.text_encoder={folder / 'other_words'}",
                                   f"output={folder / 'words_run'}"), None),
    ]  # fmt: skip
    with serving(folder) as server, pytest.MonkeyPatch.context() as patch:
        server.drops = 2
        patch.setenv("CCL_CACHE", str(folder / "kept"))
        far = arguments(folder, "ccl", f"data.shards={server.url}/shards", f"output={folder / 'far'}")
        lines += [("far_cut", "ccl", far, 2), ("far_resumed", "ccl", far, None)]
        found = driven(lines, "ccl.training.batches:JointBatches.__call__", "given[0] == kill")
    assert not server.drops
    return found


def weights(output: Path) -> dict[str, torch.Tensor]:
    return {
        f"{part}.{name}": value
        for part in ("transformer", "control")
        for name, value in load_file(output / "checkpoint" / part / "diffusion_pytorch_model.safetensors").items()
    }


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_losses_and_weights_are_those_of_training_from_the_clips(folder: Path, runs: dict) -> None:
    for name in ("shards", "clips"):
        assert runs[name][0] == 0, runs[name][1]
    assert (folder / "run/losses.csv").read_text() == (folder / "clips_run/losses.csv").read_text()
    assert same(weights(folder / "run"), weights(folder / "clips_run"))
    with open(folder / "run/losses.csv") as file:
        assert {row["task"] for row in csv.DictReader(file)} == {"mtv", "t2av", "part"}
    assert not (folder / "run/latents").exists() and "records left out" not in runs["shards"][1]


def test_a_run_that_was_killed_resumes_to_the_bit(folder: Path, runs: dict) -> None:
    assert runs["cut"][0] == 130 and runs["resumed"][0] == 0, runs["resumed"][1]
    assert (folder / "cut/losses.csv").read_text() == (folder / "run/losses.csv").read_text()
    assert same(weights(folder / "cut"), weights(folder / "run"))


def test_shards_of_a_store_train_as_those_of_the_disk_killed_and_resumed(folder: Path, runs: dict) -> None:
    assert runs["far_cut"][0] == 130 and runs["far_resumed"][0] == 0, runs["far_resumed"][1]
    assert "again in" in runs["far_cut"][1]
    assert (folder / "far/losses.csv").read_text() == (folder / "run/losses.csv").read_text()
    assert same(weights(folder / "far"), weights(folder / "run"))


def test_clips_of_several_frame_rates_train_by_a_token_budget(folder: Path, runs: dict) -> None:
    """From shards at once, and from the clips by a run that was killed: one and the same."""
    codes = [runs[name] for name in ("rates", "rates_cut", "rates_resumed")]
    assert [code for code, _ in codes] == [0, 130, 0], codes
    assert (folder / "rates_run/losses.csv").read_text() == (folder / "rates_cut/losses.csv").read_text()
    assert same(weights(folder / "rates_run"), weights(folder / "rates_cut"))
    store = ShardedLatents(folder / "rates")
    assert {name: (record.fps, record.frames) for name, record in store.records.items()} == {
        **dict.fromkeys(("clip0", "clip1", "clip2"), (8, 8)), **dict.fromkeys(("clip6", "clip7"), (12, 12)),
    }  # fmt: skip
    with open(folder / "rates_run/throughput.csv") as file:
        assert len({row["samples"] for row in csv.DictReader(file)}) > 1  # steps of several numbers of clips
    card = (folder / "rates_run/checkpoint/README.md").read_text()
    assert "| tokens a step | at most 160, processes: 1 |" in card


def test_a_broken_record_is_told_and_the_rest_is_read(folder: Path, runs: dict) -> None:
    code, err = runs["broken"]
    assert code == 0, err
    assert "clip 'clip2': damaged" in err and "records left out: 1" in err
    assert "clip1" not in err and not same(weights(folder / "broken_run"), weights(folder / "run"))


def test_stages_take_their_subsets_of_the_shards(folder: Path, runs: dict) -> None:
    code, err = runs["stages"]
    assert code == 0, err
    assert (folder / "stages/checkpoint/control/config.json").is_file()
    card = (folder / "stages/1_face/checkpoint/README.md").read_text()
    assert "| clips | 2 |" in card


def test_pictures_of_several_sizes_come_apart(folder: Path, runs: dict) -> None:
    assert runs["sizes"][0] == 0, runs["sizes"][1]
    store = ShardedLatents([folder / "shards", folder / "wide"])
    both = TrainingData(store, HashedWords(), None, [])
    buckets, unit = both.buckets(8, 2)
    frames, tokens = store.shapes()["clip5"]
    assert unit == 1 and buckets["clip5"] == (frames * 3, tokens, frames, 2, 6)
    assert buckets["clip0"] == (frames * 4, tokens, frames, 4, 4)
    alone = TrainingData(store.only(["clip0", "clip1"]), HashedWords(), None, [])
    assert alone.buckets(8, 2) == (dict.fromkeys(("clip0", "clip1"), (frames, tokens)), 4)
    with pytest.raises(UserError, match="pictures of 16x48 do not fit the model; both sides must be multiples of 32"):
        both.buckets(8, 4)


def test_another_text_encoder_is_refused(folder: Path, runs: dict) -> None:
    code, err = runs["words"]
    assert code == 2 and "components.text_encoder: its embeddings are 16 wide, those in" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["data.manifest=x"], "data.manifest or data.shards: both are given"),
        (["data.shards=null"], "data.manifest or data.shards: neither is given"),
        (["data.shards=nowhere"], "nowhere/index.json: no such file"),
        (["data.fps=9"], "data.fps 9.0: "),
        (["data.keep_fps=true"], "was encoded without --keep-fps; set the other, or encode again"),
        (["data.shards=RATES"], "was encoded with --keep-fps; set the other, or encode again"),
        (["train.micro_batch=null"], "train.micro_batch is null: give train.token_budget"),
        (["data.duration=0.5"], "was encoded with None; set that, or encode again"),
        (["data.shards=PLAIN"], "has no features of tracks, which task mtv needs; encode with --tracks"),
        (["data.shards=PLAIN", "tasks={t2v: 1}"], "has no latents of keyframes, which keyframes 0.5 need"),
        (["data.shards=PLAIN", "tasks={part: 1}"], "has no latents of speech and effects, which task part needs"),
        (["model.parts=[]"], "tasks: task part needs a model with parts; set model.parts to [speech, effects]"),
        (["validation.every=1"], "validation: samples of task mtv are driven by sound files"),
        (["data.subsets=[animals]"], "animals"),
        (["data.max_duration=0.1"], "no record of up to data.max_duration 0.1 s"),
        (["codecs=null"], "components.video_codec: name the folder of the codec, or set codecs or init; none is"),
        (["components.audio_codec=no/where"], "components.audio_codec: no/where: no audio codec (no config.json or"),
        (["components.codec=x"], "unknown key components.codec; the nearest known key is components"),
    ],
)
def test_what_shards_cannot_give_is_refused_before_anything_is_written(
    folder: Path, tmp_path: Path, overrides: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = [
        change.replace("PLAIN", str(folder / "plain")).replace("RATES", str(folder / "rates")) for change in overrides
    ]
    with pytest.raises(SystemExit) as stop:
        run_main(lambda: train_ccl.main(arguments(folder, "ccl", f"output={tmp_path / 'run'}", *changes)))
    error = capsys.readouterr().err
    assert stop.value.code == 2 and said in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_an_empty_stage_is_refused_before_any_work(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = arguments(folder, "mtv", f"output={tmp_path / 'run'}", "stages.1.subset=animals")
    with pytest.raises(SystemExit):
        run_main(lambda: train_mtv.main(line))
    assert "animals" in capsys.readouterr().err and not (tmp_path / "run").exists()
