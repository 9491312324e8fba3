"""train_mtv.py: stages one after the other, each from the last, to one checkpoint for both pipelines; exact resume."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from driven_runs import driven
from safetensors.torch import load_file

from ccl.pipeline import CCLPipeline
from ccl.training.build import JointAdapter
from mtv.control import MSTControlNet
from mtv.pipeline import MTVPipeline
from mtv.tracks import Tracks
from shared.checkpoint.folder import load_checkpoint
from shared.data.media import write_video
from shared.utils.config import TrainConfig

ROOT = Path(__file__).parents[2]
FPS = 8


def write_clip(folder: Path, index: int) -> dict:
    """1 s, 32x32 at 8 fps with three tracks, the second clip with two speakers."""
    rng = np.random.default_rng(index)
    names = ["speech", "effects", "music"] if index != 1 else ["speech1", "speech2", "effects", "music"]
    tracks = {name: (0.2 * rng.standard_normal(16000)).astype(np.float32) for name in names}
    for name, sound in tracks.items():
        soundfile.write(folder / f"{index}.{name}.wav", sound, 16000, subtype="FLOAT")
    frames = np.kron(rng.integers(0, 255, (FPS, 4, 4, 3)), np.ones((1, 8, 8, 1))).astype(np.uint8)
    write_video(folder / f"{index}.mp4", frames, FPS, sum(tracks.values())[None], 16000)
    return {
        "id": f"clip{index}",
        "video": f"{index}.mp4",
        "caption": f"Clip {index}.",
        "tracks": {name: f"{index}.{name}.wav" for name in names},
        "subsets": ["face"] if index == 0 else ["crowd"],
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """mtv.yaml of two stages, ccl.yaml with mtv among the tasks, and a manifest of three clips."""
    folder = tmp_path_factory.mktemp("mtv")
    lines = [json.dumps(write_clip(folder, index)) for index in range(3)]
    (folder / "manifest.jsonl").write_text("\n".join(lines))
    (folder / "bare.jsonl").write_text(json.dumps({"id": "bare", "video": "0.mp4", "caption": "x"}))
    stream = {"num_attention_heads": 1, "attention_head_dim": 12, "num_layers": 1, "ffn_dim": 16}
    common = {
        "model": {"video": stream, "audio": stream, "cca_heads": 1, "cca_head_dim": 12, "context_tokens": 2},
        "control": {"token_dim": 8, "tokens": 2, "interaction_blocks": 1, "heads": 2, "ffn_dim": 8, "hidden_dim": 8},
        "data": {"manifest": str(folder / "manifest.jsonl"), "fps": FPS, "size": [32, 32]},
        "optimizer": {"warmup": 0, "lr": 1e-2},
        "keyframes": 0.5,
        "validation": {"every": 1, "clips": 1, "steps": 1},
    }
    train = {"micro_batch": 1, "checkpoint_every": 1, "log_every": 1, "ema": 0.5}
    stages = [
        {"name": "face", "subset": "face", "steps": 2, "trainable": ["control"]},
        {"name": "crowd", "subset": ["face", "crowd"], "steps": 3},
    ]
    mtv = {"output": str(folder / "whole"), **common, "train": train, "stages": stages}
    tasks = {"mtv": 1.0, "t2av": 1.0}
    ccl = {"output": str(folder / "both"), **common, "train": {"steps": 2, **train, "micro_batch": 2}, "tasks": tasks}
    (folder / "mtv.yaml").write_text(yaml.safe_dump(mtv))
    (folder / "ccl.yaml").write_text(yaml.safe_dump(ccl))
    return folder


@pytest.fixture(scope="module")
def runs(folder: Path) -> dict[str, tuple[int | str, str]]:
    """Exit code and stderr of each run."""

    def arguments(config: str, *overrides: str) -> list[str]:
        line = ["--config", str(folder / f"{config}.yaml")]
        return line + [part for override in overrides for part in ("--set", override)]

    cut = f"output={folder / 'cut'}"
    lines = [
        ("whole", "mtv", arguments("mtv"), None),
        ("again", "mtv", arguments("mtv"), None),
        ("cut", "mtv", arguments("mtv", cut), ["2_crowd", 2]),
        ("resumed", "mtv", arguments("mtv", cut), None),
        ("changed", "mtv", arguments("mtv", "stages.0.steps=3"), None),
        ("bare", "mtv", arguments("mtv", f"output={folder / 'none'}", f"data.manifest={folder / 'bare.jsonl'}",
                                  "stages=[{name: all, steps: 1}]"), None),
        ("nobody", "mtv", arguments("mtv", f"output={folder / 'none2'}", "stages.0.subset=animals"), None),
        ("joined", "mtv", arguments("mtv", f"output={folder / 'none3'}", "model.routing=joint"), None),
        ("both", "ccl", arguments("ccl"), None),
        ("music", "ccl", arguments("ccl", f"output={folder / 'music'}", f"init={folder / 'whole/checkpoint'}",
                                   "tasks={mtv: 1}", "reinit=[holistic]", "trainable=[holistic]"), None),
    ]  # fmt: skip
    return driven(lines, "ccl.training.run:Run.validate", '[self.config.output.rpartition("/")[2], given[0]] == kill')


def weights(checkpoint: Path, part: str) -> dict[str, torch.Tensor]:
    return load_file(checkpoint / part / "diffusion_pytorch_model.safetensors")


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name].float(), after[name].float())}


def test_the_stages_end_in_one_checkpoint_for_both_pipelines(folder: Path, runs: dict) -> None:
    assert runs["whole"][0] == 0, runs["whole"][1]
    joint = load_checkpoint(CCLPipeline, folder / "whole/checkpoint")
    assert joint("Clip 1.", duration=1.0, num_inference_steps=1).video.shape == (1, FPS, 32, 32, 3)
    driven = load_checkpoint(MTVPipeline, folder / "whole/checkpoint")
    tracks = Tracks([torch.randn(1, 16000) * 0.1])
    assert driven("Clip 1.", tracks, num_inference_steps=1).video.shape == (1, FPS, 32, 32, 3)
    assert (folder / "whole/1_face/samples/step000002_mtv_0.mp4").is_file()
    assert not (folder / "whole/1_face/samples/step000002_0.mp4").exists()  # no joint task in that stage


def test_each_stage_trains_its_own_parts_from_the_last(folder: Path, runs: dict) -> None:
    first, second = folder / "whole/1_face/checkpoint", folder / "whole/2_crowd/checkpoint"
    assert changed(weights(first, "control"), weights(second, "control"))
    learned = {name for name in changed(weights(first, "transformer"), weights(second, "transformer"))}
    rounded = weights(second, "transformer")
    attention = {name for name in learned if rounded[name].dtype == torch.float32 or ".attn" in name}
    assert any("blocks.0.video.attn1" in name for name in learned)
    frozen = [name for name in rounded if name not in attention]
    for name in frozen:  # as they were, but for the rounding of the last export
        assert torch.equal(weights(first, "transformer")[name].to(rounded[name].dtype), rounded[name]), name


def test_a_finished_curriculum_is_left_alone_and_a_changed_one_refused(folder: Path, runs: dict) -> None:
    assert runs["again"][0] == 0
    with open(folder / "whole/2_crowd/losses.csv") as file:
        assert {(row["step"], row["task"]) for row in csv.DictReader(file)} == {(str(i), "mtv") for i in (1, 2, 3)}
    code, err = runs["changed"]
    assert code == 2 and "only the last stage can be prolonged to 3" in err


def test_a_curriculum_cut_in_the_middle_of_a_stage_resumes_to_the_bit(folder: Path, runs: dict) -> None:
    assert runs["cut"][0] == 130 and runs["resumed"][0] == 0, runs["resumed"][1]
    for part in ("transformer", "control"):
        assert not changed(weights(folder / "whole/checkpoint", part), weights(folder / "cut/checkpoint", part))


def test_clips_without_tracks_and_empty_stages_are_refused_before_any_work(folder: Path, runs: dict) -> None:
    assert runs["bare"][0] == 2 and "'bare' first, have no tracks" in runs["bare"][1]
    assert runs["nobody"][0] == 2 and "animals" in runs["nobody"][1] and not (folder / "none2").exists()
    assert runs["joined"][0] == 2 and "joint joins the streams in every task, so mtv" in runs["joined"][1]
    assert not (folder / "none3").exists()


def test_mtv_is_one_more_task_of_joint_training(folder: Path, runs: dict) -> None:
    assert runs["both"][0] == 0, runs["both"][1]
    with open(folder / "both/losses.csv") as file:
        assert {(row["task"], row["stream"]) for row in csv.DictReader(file)} == {
            ("mtv", "video"),
            ("t2av", "video"),
            ("t2av", "audio"),
        }
    samples = sorted(path.name for path in (folder / "both/samples").iterdir())
    assert samples == [f"step{i:06d}_{kind}.mp4" for i in (1, 2) for kind in ("0", "mtv_0")]


def test_musics_way_begins_anew_and_learns_alone(folder: Path, runs: dict) -> None:
    assert runs["music"][0] == 0, runs["music"][1]
    start, end = folder / "whole/checkpoint", folder / "music/checkpoint"
    learned = changed(weights(start, "control"), weights(end, "control"))
    assert {"track_encoders.music.stack.0.weight", "holistic_stream.conv.weight"} <= learned
    assert all(name.startswith(MSTControlNet.HOLISTIC) for name in learned)
    assert not changed(weights(start, "transformer"), weights(end, "transformer"))


def test_what_music_adds_to_every_clip_stays_where_its_way_begins_anew(
    folder: Path, runs: dict, tmp_path: Path
) -> None:
    start = shutil.copytree(folder / "whole/checkpoint", tmp_path / "start")
    control = MSTControlNet.from_pretrained(start / "control")
    for injection in control.holistic_injection:
        torch.nn.init.normal_(injection.to_style.weight)
        torch.nn.init.normal_(injection.to_style.bias)
    control.save_pretrained(start / "control")
    config = TrainConfig.load(folder / "music/config.yaml", [f"init={start}"])
    assert config.reinit == ["holistic"]
    before, begun = control.state_dict(), JointAdapter(config).control.state_dict()
    kept = {name for name, value in before.items() if begun[name].equal(value)}
    assert {name for name in before if name.endswith("to_style.bias")} <= kept
    assert not begun["holistic_injection.0.to_style.weight"].any()
    assert not {"holistic_stream.conv.weight", "track_encoders.music.stack.0.weight"} & kept


def test_a_new_control_network_standardises_the_features_of_its_tracks(folder: Path, runs: dict) -> None:
    for name, value in weights(folder / "both/checkpoint", "control").items():
        if "feature_" in name:
            assert len(value.unique()) > 2, name
