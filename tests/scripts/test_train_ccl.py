"""train_ccl.py from a folder of clips to a checkpoint that samples; what cannot train is refused by name.

The runs share one process group in a process of their own: DeepSpeed allows one in each, and pytest's may
have it already.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import train_ccl
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import counted

from ccl.pipeline import CCLPipeline
from shared.checkpoint.folder import load_checkpoint
from shared.checkpoint.lora_file import shapes
from shared.data.media import probe, write_video
from shared.nn.parameter_names import part_of
from shared.utils.errors import run_main

ROOT = Path(__file__).parents[2]

FPS = 8
DRIVER = """
import contextlib, io, json, sys
sys.path.insert(0, "scripts")
import train_ccl
from shared.training import trainer
from shared.utils.distributed import session
from shared.utils.errors import run_main, UserError
after = trainer.Trainer._after
def cut(self, engine, log, state, stop, step):
    after(self, engine, log, state, stop, step)
    if step == 1:
        raise UserError("cut")
results = []
with session():
    for name, argv in json.loads(sys.argv[1]).items():
        code, err = 0, io.StringIO()
        if name == "diverging":  # at a rate that no configuration may have
            learning_rate, trainer.learning_rate = trainer.learning_rate, lambda *_: 1e30
        trainer.Trainer._after = cut if name.endswith("cut") else after
        with contextlib.redirect_stderr(err):
            try:
                run_main(lambda: train_ccl.main(argv))
            except SystemExit as stop:
                code = stop.code
        if name == "diverging":
            trainer.learning_rate = learning_rate
        results.append([name, code, err.getvalue()])
print("RESULTS" + json.dumps(results))
"""


def write_clip(path: Path, index: int, sound: bool = True, level: float = 0.3) -> None:
    """1 s, 32x32 at 8 fps, with a caption beside it."""
    rng = np.random.default_rng(index)
    frames = np.kron(rng.integers(0, 255, (FPS, 4, 4, 3)), np.ones((1, 8, 8, 1))).astype(np.uint8)
    noise = (level * rng.standard_normal((1, 16000))).astype(np.float32)
    write_video(path, frames, FPS, noise if sound else None, 16000 if sound else None)
    path.with_suffix(".txt").write_text(f"Clip {index} of noise.")


def clips(folder: Path, count: int = 4) -> Path:
    folder.mkdir()
    for index in range(count):
        write_clip(folder / f"clip{index}.mp4", index)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """config.yaml of a one-block model, and the folder good/ of four clips with captions."""
    folder = tmp_path_factory.mktemp("training")
    stream = {"num_attention_heads": 1, "attention_head_dim": 12, "num_layers": 1, "ffn_dim": 16}
    config = {
        "output": str(folder / "run"),
        "model": {"video": stream, "audio": stream, "cca_heads": 1, "cca_head_dim": 12, "context_tokens": 2},
        "data": {"manifest": str(clips(folder / "good")), "fps": FPS, "size": [32, 32]},
        "train": {"steps": 3, "micro_batch": 4, "checkpoint_every": 1, "log_every": 1, "ema": 0.5},
        "optimizer": {"warmup": 0},
        "validation": {"every": 3, "clips": 1, "steps": 1},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    towers = {"name": "towers", "steps": 2, "tasks": {"t2v": 1, "t2a": 1}, "settings": {"flow.high_share": 1.0}}
    stages = [towers, {"name": "joint", "steps": 1, "tasks": {"t2av": 1}}]
    config |= {"output": str(folder / "staged_run"), "stages": [one | {"trainable": ["transformer"]} for one in stages]}
    config["train"] = {"micro_batch": 4, "checkpoint_every": 1, "log_every": 1, "ema": 0.0, "mixed_tasks": True}
    (folder / "staged.yaml").write_text(yaml.safe_dump(config | {"optimizer": {"warmup": 0, "lr": 1e-12}}))
    return folder


def arguments(folder: Path, *overrides: str) -> list[str]:
    line = ["--config", str(folder / "config.yaml")]
    return line + [part for override in overrides for part in ("--set", override)]


@pytest.fixture(scope="module")
def runs(folder: Path) -> dict[str, tuple[int, str]]:
    """Exit code and stderr of each run: trained, trained again, on a silent clip, with an absurd rate, in stages, from
    streams."""
    write_clip(clips(folder / "quiet", 2) / "hush.mp4", 9, level=1e-5)
    apart = f"data.manifest={folder / 'quiet'}", f"output={folder / 'quiet_run'}"
    lines = {
        "first": [*arguments(folder), "--local_rank=0"],
        "again": arguments(folder),
        "silent": arguments(folder, *apart),
        "diverging": arguments(folder, f"output={folder / 'diverging_run'}"),
        "staged": ["--config", str(folder / "staged.yaml")],
        "joined": arguments(
            folder,
            f"init_streams={folder / 'run/checkpoint'}",
            "model.fusion=full",
            "optimizer.lr=1e-12",
            "train.steps=1",
            "train.export_dtype=fp32",
            "validation.every=1",
            f"output={folder / 'joined_run'}",
        ),
    }
    held = [f"validation.manifest={clips(folder / 'held', 3)}", "validation.held_out=2", "validation.every=2"]
    held += [f"data.latents={folder / 'run/latents'}", f"codecs={folder / 'run/codecs'}", "text_dropout=0.5"]
    lines["held"] = arguments(folder, *held, f"output={folder / 'held_run'}")
    lines["held cut"] = lines["held again"] = arguments(folder, *held, f"output={folder / 'held_cut_run'}")
    lines["unheld"] = arguments(folder, *held[3:], f"output={folder / 'unheld_run'}")
    lines["held quiet"] = arguments(
        folder, *held[1:], f"validation.manifest={folder / 'quiet'}", f"output={folder / 'hushed_run'}"
    )
    few = [f"init={folder / 'run/checkpoint'}", f"distill.teacher={folder / 'run/checkpoint'}", "train.steps=4"]
    few += ["optimizer.lr=0.01", "train.export_dtype=fp32", "distill.steps=3", "validation.every=0"]
    few += [f"data.latents={folder / 'run/latents'}", "train.report_to=[]"]
    lines["few"] = arguments(folder, *few, f"output={folder / 'few_run'}", "validation.every=4")
    lines["few cut"] = lines["few again"] = arguments(folder, *few, f"output={folder / 'cut_run'}")
    tuned = [f"init={folder / 'few_run/checkpoint'}", "distill.teacher=null", "lora.rank=2", "train.steps=1"]
    lines["few tuned"] = arguments(folder, *few[-3:], *tuned, f"output={folder / 'tuned_run'}")
    command = [sys.executable, "-c", DRIVER, json.dumps(lines)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "RESULTS" in done.stdout, done.stderr
    return {name: (code, err) for name, code, err in json.loads(done.stdout.rpartition("RESULTS")[2])}


def test_a_folder_of_clips_becomes_a_checkpoint_that_samples(folder: Path, runs: dict) -> None:
    assert runs["first"][0] == 0, runs["first"][1]
    pipeline = load_checkpoint(CCLPipeline, folder / "run/checkpoint")
    assert (pipeline.config.fps, pipeline.config.height) == (FPS, 32)
    made = pipeline("Clip 1 of noise.", duration=1.0, num_inference_steps=1)
    assert made.video.shape == (1, FPS, 32, 32, 3) and made.audio.shape == (1, 16000)
    card = (folder / "run/checkpoint/README.md").read_text()
    assert "| clips | 4 |" in card and f"{folder.name}/good" in card and str(folder) not in card


def test_losses_are_logged_apart(folder: Path, runs: dict) -> None:
    with open(folder / "run/losses.csv") as file:
        rows = list(csv.DictReader(file))
    assert {int(row["step"]) for row in rows} == {1, 2, 3}
    assert {row["stream"] for row in rows} == {"video", "audio"}
    assert all(np.isfinite(float(row["loss"])) for row in rows)


def test_validation_clips_are_written(folder: Path, runs: dict) -> None:
    info = probe(folder / "run/samples/step000003_0.mp4")
    assert info.has_audio and (info.fps, info.width) == (FPS, 32)


def test_a_finished_run_only_exports_again(folder: Path, runs: dict) -> None:
    code, err = runs["again"]
    assert code == 0, err
    assert "1/3" not in err
    rows = (folder / "run/losses.csv").read_text().splitlines()
    assert len(rows) == len(set(rows))


def test_a_silent_clip_is_refused_by_name(folder: Path, runs: dict) -> None:
    code, err = runs["silent"]
    assert code == 2 and "error: 1 of 3 clips cannot be used: clip 'hush': its sound is silent" in err.splitlines()[-1]
    assert "Traceback" not in err and not (folder / "quiet_run/checkpoint").exists()


def test_a_loss_that_is_not_finite_stops_with_step_task_and_clips(folder: Path, runs: dict) -> None:
    code, err = runs["diverging"]
    last = err.splitlines()[-1]
    assert code == 2 and last.startswith("error: the loss is not finite at step 2, in clip"), err
    assert any(f"({task})" in last for task in ("t2av", "a2v", "v2a", "t2v", "t2a"))
    state = folder / "diverging_run/state"
    assert (state / (state / "latest").read_text() / "about.json").is_file()
    assert not (folder / "diverging_run/checkpoint").exists()


def test_stages_without_mtv_train_one_after_the_other_on_clips_without_tracks(folder: Path, runs: dict) -> None:
    code, err = runs["staged"]
    assert code == 0, err
    run = folder / "staged_run"
    learnt = {}
    for name in ("1_towers", "2_joint"):
        with open(run / name / "losses.csv") as file:
            learnt[name] = {row["task"] for row in csv.DictReader(file)}
    assert learnt == {"1_towers": {"t2v", "t2a"}, "2_joint": {"t2av"}}
    assert yaml.safe_load((run / "1_towers/config.yaml").read_text())["flow"]["high_share"] == 1.0
    assert yaml.safe_load((run / "2_joint/config.yaml").read_text())["flow"]["high_share"] == 0.0
    assert not (run / "latents/tracks").exists()
    made = [load_checkpoint(CCLPipeline, one).transformer for one in (run / "1_towers/checkpoint", run / "checkpoint")]
    for name, value in made[0].state_dict().items():  # at such a rate the last is the first
        torch.testing.assert_close(made[1].state_dict()[name].float(), value.float(), rtol=0.01, atol=1e-5)


def test_losses_of_held_out_clips_are_logged_and_change_nothing(folder: Path, runs: dict) -> None:
    """Each task that trains, at two noise levels of each of three clips; also where a run was cut off."""
    for name in ("held", "unheld", "held again"):
        assert runs[name][0] == 0, runs[name][1]
    assert runs["held cut"][1].endswith("error: cut\n")
    trained = "losses.csv", "checkpoint/transformer/diffusion_pytorch_model.safetensors"
    for file in trained:
        assert (folder / "held_run" / file).read_bytes() == (folder / "unheld_run" / file).read_bytes()
    assert not (folder / "unheld_run/held_losses.csv").exists()
    table = (folder / "held_run/held_losses.csv").read_text()
    assert (folder / "held_cut_run/held_losses.csv").read_text() == table
    counts: dict[tuple[str, str, str], int] = {}
    for row in csv.DictReader(table.splitlines()):
        key = row["step"], row["stream"], row["task"]
        counts[key] = counts.get(key, 0) + int(row["samples"])
        assert np.isfinite(float(row["loss"]))
    made = {"video": {"t2av", "a2v", "t2v"}, "audio": {"t2av", "v2a", "t2a"}}
    assert counts == {(step, name, task): 6 for step in ("2", "3") for name in made for task in made[name]}
    watched = EventAccumulator(str(folder / "held_run/tensorboard")).Reload()
    assert {"held_out/video", "held_out/audio", "held_out/video/t2av"} <= set(watched.Tags()["scalars"])
    assert [event.step for event in watched.Scalars("held_out/video")] == [2, 3]


def test_a_held_out_clip_that_cannot_be_measured_is_refused_by_name(folder: Path, runs: dict) -> None:
    code, err = runs["held quiet"]
    assert code == 2 and "clip 'hush': its sound is silent" in err.splitlines()[-1]
    assert not (folder / "hushed_run/losses.csv").exists() and not (folder / "hushed_run/checkpoint").exists()


def test_another_fusion_starts_from_the_same_streams_and_codecs(folder: Path, runs: dict) -> None:
    code, err = runs["joined"]
    assert code == 0, err
    assert err.count("guidance is text") == 1  # of its validation samples: it has no state to be guided by but that
    first, second = (load_checkpoint(CCLPipeline, folder / name / "checkpoint") for name in ("run", "joined_run"))
    assert second.transformer.config.fusion == "full"
    theirs = first.transformer.state_dict()
    streams = {n: p for n, p in second.transformer.state_dict().items() if part_of(n) != "fusion"}
    assert set(streams) == {name for name in theirs if part_of(name) != "fusion"}
    for name, value in streams.items():
        torch.testing.assert_close(value, theirs[name], rtol=0, atol=1e-6)
    for codec in ("video_codec", "audio_codec"):
        ours, others = (getattr(pipeline, codec).state_dict() for pipeline in (first, second))
        assert all(torch.equal(value, others[name]) for name, value in ours.items())


def test_a_model_distilled_for_few_steps_samples_in_as_many_evaluations(folder: Path, runs: dict) -> None:
    assert runs["few"][0] == 0, runs["few"][1]
    with open(folder / "few_run/losses.csv") as file:
        rows = list(csv.DictReader(file))
    assert {"video", "audio", "video-jump", "audio-jump"} >= {row["stream"] for row in rows} > {"video", "audio"}
    pipeline = load_checkpoint(CCLPipeline, folder / "few_run/checkpoint")
    learnt = pipeline.transformer.video_stream.condition_embedder.until_embedder.linear_2.weight
    assert learnt.any() and pipeline.transformer.config.distilled["guidance"]["t2av"]["text_scale"] == [2.5, 2.5]
    with counted(pipeline.transformer) as routes:
        made = pipeline("Clip 1 of noise.", duration=1.0)
    assert len(routes) == 3 and made.video.shape == (1, FPS, 32, 32, 3) and made.audio.shape == (1, 16000)
    assert probe(folder / "few_run/samples/step000004_0.mp4").has_audio
    assert {file.name for file in (folder / "few_run/checkpoint/transformer").iterdir()} == {
        "config.json", "diffusion_pytorch_model.safetensors",
    }  # fmt: skip


def test_a_distillation_that_was_cut_off_goes_on_to_the_same_bits(folder: Path, runs: dict) -> None:
    assert runs["few cut"][0] == 2 and runs["few cut"][1].endswith("error: cut\n"), runs["few cut"][1]
    assert runs["few again"][0] == 0, runs["few again"][1]
    for name in ("losses.csv", "checkpoint/transformer/diffusion_pytorch_model.safetensors"):
        assert (folder / "few_run" / name).read_bytes() == (folder / "cut_run" / name).read_bytes()


def test_adapters_of_a_distilled_model_learn_from_data(folder: Path, runs: dict) -> None:
    assert runs["few tuned"][0] == 0, runs["few tuned"][1]
    names = shapes(folder / "tuned_run/lora/pytorch_lora_weights.safetensors")
    assert names and all(name.startswith("transformer.") for name in names)
    pipeline = load_checkpoint(CCLPipeline, folder / "few_run/checkpoint")
    pipeline.load_lora_weights(folder / "tuned_run/lora")
    with counted(pipeline.transformer) as routes:
        pipeline("Clip 1 of noise.", duration=1.0)
    assert len(routes) == 3


def test_plain_training_of_a_distilled_model_is_refused(
    folder: Path, runs: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start, few = folder / "few_run/checkpoint", f"output={tmp_path / 'run'}"
    error = refusal(arguments(folder, few, f"init={start}"), capsys)
    assert f"init {start}: is distilled" in error and "set distill.teacher: null" in error
    error = refusal(arguments(folder, few, f"init_streams={start}"), capsys)
    assert f"init_streams {start}: is distilled" in error
    twice = f"init={start}", f"distill.teacher={start}"
    assert "is distilled itself" in refusal(arguments(folder, few, *twice), capsys)
    moved = f"init={start}", "distill.teacher=null", "flow.video_shift=2"
    assert "have shift 1, and both streams" in refusal(arguments(folder, few, *moved), capsys)
    assert not (tmp_path / "run").exists()


def refusal(line: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        run_main(lambda: train_ccl.main(line))
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1
    return error


def test_a_clip_without_sound_is_refused_by_name(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_clip(clips(tmp_path / "mute", 1) / "deaf.mp4", 9, sound=False)
    line = arguments(folder, f"data.manifest={tmp_path / 'mute'}", f"output={tmp_path / 'run'}")
    error = refusal(line, capsys)
    assert "1 of 2 clips" in error and "clip 'deaf'" in error and "no audio stream" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.stepz=3", "unknown key train.stepz; the nearest known key is train.steps"),
        ("train.steps", "expected key=value"),
        ("data.manifest=nowhere", "nowhere: no such manifest"),
        ("codecs=nowhere", "codecs: nowhere: no video codec (no config.json or video_codec/config.json"),
        ("init=nowhere", "checkpoint nowhere: no such folder"),
        ("init_streams=nowhere", "checkpoint nowhere: no such folder"),
        ("distill.teacher=nowhere", "distill: few steps are learned by a trained model; set init to its folder"),
        ("model.fusion=gate", "model: fusion is 'gate'; choose one of cca, gate_hard"),
        ("model.routing=joint", "so t2v, t2a cannot be trained; give weights to t2av, a2v and v2a only"),
    ],
)
def test_bad_settings_are_refused_and_write_nothing(
    folder: Path, tmp_path: Path, override: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refusal(arguments(folder, f"output={tmp_path / 'run'}", override), capsys)
    assert said in error and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("init=there", "init_streams=here", "init (there) gives the streams too"),
        (
            "model.routing=joint",
            "detach_clean_stream=true",
            "with model.routing joint the given stream reads the other",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    folder: Path, tmp_path: Path, first: str, second: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    joint = "tasks={t2av: 1, a2v: 1}"
    error = refusal(arguments(folder, f"output={tmp_path / 'run'}", joint, first, second), capsys)
    assert said in error and not (tmp_path / "run").exists()


def test_a_broken_clip_is_refused_by_name(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (clips(tmp_path / "clips", 1) / "torn.mp4").write_bytes(b"not a film " * 20)
    (tmp_path / "clips/torn.txt").write_text("Torn.")
    line = arguments(folder, f"data.manifest={tmp_path / 'clips'}", f"output={tmp_path / 'run'}")
    assert "clip 'torn'" in refusal(line, capsys) and not (tmp_path / "run").exists()
