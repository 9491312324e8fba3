"""sample_joint.py on a tiny random checkpoint: tasks and options write the right file, bad input none."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import sample_joint
import soundfile
from PIL import Image

from shared.checkpoint import loading
from shared.checkpoint.folder import check_checkpoint, load_checkpoint
from shared.data.media import is_silent, probe, read_audio, read_video, write_audio, write_video
from shared.utils.errors import run_main

SCRIPTS = Path(__file__).parents[2] / "scripts"

FPS = 8.0
RED = (200, 40, 60)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tone.wav (stereo, 44.1 kHz, 1.5 s), clip.mp4 (48x40, 30 fps, 1.2 s, with sound), mute.mp4, red.png."""
    folder = tmp_path_factory.mktemp("media")
    time = np.arange(66150) / 44100
    tone = np.stack([np.sin(2 * np.pi * 300 * time), np.sin(2 * np.pi * 700 * time)]) * np.exp(-time)
    write_audio(folder / "tone.wav", tone.astype(np.float32) * 0.5, 44100)
    ramp = np.linspace(20, 235, 36, dtype=np.uint8)[:, None, None, None]
    frames = np.broadcast_to(ramp, (36, 40, 48, 3))
    write_video(folder / "clip.mp4", frames, 30, tone[:1].astype(np.float32), 44100)
    write_video(folder / "mute.mp4", frames, 30)
    Image.new("RGB", (50, 40), RED).save(folder / "red.png")
    return folder


@pytest.fixture
def make(checkpoint: Path, tmp_path: Path):
    """make("--prompt", ...) -> the path of tmp_path/out/clip.mp4, sampled in two steps."""

    def run(*argv: object, name: str = "clip.mp4") -> Path:
        out = tmp_path / "out" / name
        text = [] if {"--prompts", "--timed-prompts"} & set(argv) else ["--prompt", "A bell rings."]
        base = ["--checkpoint", checkpoint, "--output", out, "--steps", 2, *text]
        sample_joint.main([str(part) for part in (*base, *argv)])
        return out

    return run


def codecs_of(path: Path) -> list[str]:
    with av.open(str(path)) as container:
        return [stream.codec_context.name for stream in container.streams]


def test_text_makes_h264_and_aac_of_one_duration(make) -> None:
    out = make()
    info = probe(out)
    assert codecs_of(out) == ["h264", "aac"]
    assert (info.width, info.height, info.fps, info.rate) == (32, 32, FPS, 16000)
    assert info.video_end == pytest.approx(2) and info.audio_end == pytest.approx(2, abs=0.5 / FPS)
    assert not is_silent(read_audio(out, 16000))


def test_a_long_clip_is_made_in_windows(make) -> None:
    out = make("--duration", 4, "--window", 2)
    info, whole = probe(out), read_video(out, FPS)
    assert info.video_end == pytest.approx(4) and info.audio_end == pytest.approx(4, abs=0.5 / FPS)
    first = read_video(make("--num-frames", 17, name="first.mp4"), FPS)
    assert np.abs(whole[:16].astype(int) - first[:16]).mean() < 2  # the same pictures, encoded apart


def test_t2v_has_no_sound_and_t2a_is_a_wav(make) -> None:
    assert codecs_of(make("--task", "t2v", "--duration", 1)) == ["h264"]
    sound = probe(make("--task", "t2a", "--duration", 1, name="clip.wav"))
    assert (sound.has_video, sound.rate, sound.duration) == (False, 16000, 1)


def test_a2v_carries_the_given_sound_itself(make, media: Path) -> None:
    out = make("--audio", media / "tone.wav")
    info = probe(out)
    assert (info.rate, info.channels) == (44100, 2)
    assert info.video_end == pytest.approx(1.5, abs=0.5 / FPS)
    given, heard = (read_audio(path, 44100, mono=False, end=1.4) for path in (media / "tone.wav", out))
    for before, after in zip(given, heard, strict=True):
        assert np.corrcoef(before, after)[0, 1] > 0.99  # AAC


def test_v2a_carries_the_given_picture_itself(make, media: Path) -> None:
    out = make("--video", media / "mute.mp4", "--duration", 1)
    info = probe(out)
    assert (info.width, info.height, info.fps, info.rate) == (48, 40, 30, 16000)
    assert info.duration == pytest.approx(1, abs=0.5 / 30)
    given, seen = (read_video(path, 30).astype(int) for path in (media / "mute.mp4", out))
    assert len(seen) == 30 and abs(seen - given[:30]).mean() < 2
    assert not is_silent(read_audio(out, 16000))


def test_v2a_replaces_the_sound_of_the_given_video(make, media: Path) -> None:
    out = make("--video", media / "clip.mp4")
    assert probe(out).video_end == pytest.approx(1.2, abs=0.5 / FPS)
    given, heard = (read_audio(path, 16000, end=1.1)[0] for path in (media / "clip.mp4", out))
    assert abs(np.corrcoef(given, heard)[0, 1]) < 0.5


def test_a_retake_keeps_its_spans_to_the_bit(make, media: Path, tmp_path: Path) -> None:
    write_audio(tmp_path / "low.wav", read_audio(media / "tone.wav", 16000), 16000)  # at the codec's rate
    given = read_video(media / "clip.mp4", FPS, (32, 32), end=1.0)
    both = ["--video", media / "clip.mp4", "--audio", tmp_path / "low.wav"]
    out = make(*both, "--keep", "0-0.125,0.625-1", "--duration", 1, "--lossless", name="clip.mkv")
    made = read_video(out, FPS)
    assert made.shape == given.shape and np.array_equal(made[[0, 5, 6, 7]], given[[0, 5, 6, 7]])
    assert not np.array_equal(made[1:5], given[1:5])
    true, heard = (read_audio(file, 16000, end=1.0)[0] for file in (tmp_path / "low.wav", out))
    assert np.array_equal(heard[11_000:16_000], true[11_000:16_000]) and true[11_000:16_000].any()
    assert not np.array_equal(heard[3_000:9_000], true[3_000:9_000])
    longer = make("--video", media / "mute.mp4", "--keep", "0-0.625", "--duration", 2)
    assert probe(longer).has_audio and probe(longer).video_end == pytest.approx(2)


def test_size_and_pictures_may_be_said(make) -> None:
    info = probe(make("--size", "32x64", "--num-frames", 9, "--task", "t2v"))
    assert (info.width, info.height, info.video_end) == (64, 32, pytest.approx(9 / FPS))


@pytest.mark.parametrize("task", ["auto", "t2v", "a2v"])
def test_an_image_is_the_first_frame(make, media: Path, task: str) -> None:
    more = ("--audio", media / "tone.wav") if task == "a2v" else ()
    frames = read_video(make("--task", task, "--image", media / "red.png", *more), FPS).astype(int)
    assert abs(frames[0] - RED).mean() < 4 < abs(frames[4] - RED).mean()


def test_prompts_are_numbered_and_seeded_one_by_one(make, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("A ball bounces.\nA drum is hit.\nA bell rings.\n")
    out = make("--prompts", tmp_path / "prompts.txt", "--batch", 2, "--seed", 5, "--duration", 1)
    assert sorted(path.name for path in out.parent.iterdir()) == [
        ".clip.mp4.settings", *(f"clip_00{i}.mp4" for i in range(3)),
    ]  # fmt: skip
    alone = make("--seed", 7, "--duration", 1)  # the third prompt
    batch, single = (read_video(path, FPS).astype(int) for path in (out.with_stem("clip_002"), alone))
    assert abs(batch - single).max() <= 2


def test_many_prompts_load_once_what_is_run(make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the shipped checkpoint, which has parts that only sample_mtv.py runs."""
    loaded = []

    def load(*arguments: Any, **options: Any) -> Any:
        loaded.append(load_checkpoint(*arguments, **options))
        return loaded[-1]

    monkeypatch.setattr(loading, "load_checkpoint", load)
    (tmp_path / "prompts.txt").write_text("A bell rings.\nA drum is hit.\nA ball bounces.\n")
    shipped = loading.shipped_checkpoint()
    many = ("--checkpoint", shipped, "--prompts", tmp_path / "prompts.txt", "--batch", 1)
    make(*many, "--duration", 0.25, "--steps", 1)
    assert len([*(tmp_path / "out").glob("clip_*.mp4")]) == 3
    (pipeline,) = loaded
    absent = {name for name, part in pipeline.components.items() if part is None}
    assert check_checkpoint(shipped)["control"] == ["mtv.control", "MSTControlNet"]
    assert absent == {"control", "audio_encoder", "effects_encoder", "music_encoder"}


def test_seed_and_texts_change_the_clip(make, tmp_path: Path) -> None:
    (tmp_path / "story.txt").write_text("0, A bell rings.\n0.5, A dog barks loudly.\n")
    story = make("--timed-prompts", tmp_path / "story.txt", "--task", "t2a", name="story.wav")
    variants = [
        (),
        ("--seed", 1),
        ("--audio-prompt", "Rain."),
        ("--negative-prompt", "Noise."),
        ("--guidance", "joint", "--text-scale", "1,5"),
    ]
    sounds = [read_audio(make(*more, "--task", "t2a", name=f"{i}.wav"), 16000) for i, more in enumerate(variants)]
    faded = make("--timed-prompts", tmp_path / "story.txt", "--fade", 0.5, "--task", "t2a", name="faded.wav")
    sounds += [read_audio(story, 16000), read_audio(faded, 16000)]
    for i, sound in enumerate(sounds):
        assert all(not np.array_equal(sound, other) for other in sounds[:i])
    assert np.array_equal(sounds[0], read_audio(make("--task", "t2a", name="again.wav"), 16000))


def test_bfloat16_runs(make) -> None:
    assert probe(make("--dtype", "bfloat16", "--duration", 1)).has_audio


def test_arguments_are_checked_before_torch_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys, sample_joint\n"
        "from shared.utils.errors import UserError\n"
        "try: sample_joint.main(['--prompt', 'x', '--output', 'x.mp4', '--checkpoint', 'nowhere'])\n"
        "except UserError: sys.exit('torch' in sys.modules)\n"
        "sys.exit(3)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, check=False).returncode == 0


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        sample_joint.main(["--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0 and "a2v" in text and "--prompt" in text


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path, media: Path) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    for name in ("broken.mp4", "broken.png", "broken.wav"):
        (folder / name).write_bytes(b"not media " * 50)
    soundfile.write(folder / "nan.wav", np.full(16000, np.nan, np.float32), 16000, subtype="FLOAT")
    (folder / "gap.txt").write_text("A bell.\n\nA drum.\n")
    (folder / "empty.txt").write_text("")
    (folder / "late.txt").write_text("0, A bell.\n9, A drum.\n")
    (folder / "latin.txt").write_bytes("Ein schöner Ball.".encode("latin-1"))
    shutil.copytree(checkpoint, folder / "part")
    (folder / "part/audio_codec/config.json").unlink()
    return folder


BAD = [
    (["--audio", "BAD/nothing.wav"], "nothing.wav: no such file"),
    (["--audio", "BAD/broken.wav"], "broken.wav: broken"),
    (["--audio", "BAD/nan.wav"], "NaN"),
    (["--audio", "MEDIA/mute.mp4"], "mute.mp4: has no sound"),
    (["--audio", "MEDIA/tone.wav", "--duration", "4"], "tone.wav: its sound last 1.50 s"),
    (["--video", "BAD/broken.mp4"], "broken.mp4: broken"),
    (["--video", "MEDIA/tone.wav"], "tone.wav: has no pictures"),
    (["--audio", "MEDIA/tone.wav", "--video", "MEDIA/mute.mp4"], "both a sound and a video"),
    (["--image", "BAD/nothing.png"], "nothing.png: no such file"),
    (["--image", "BAD/broken.png"], "broken.png: broken"),
    (["--image", "MEDIA/red.png", "--task", "t2a", "--output", "OUT/x.wav"], "leave the image out"),
    (["--task", "a2v"], "task a2v needs"),
    (["--task", "t2v", "--audio", "MEDIA/tone.wav"], "does not read a given audio"),
    (["--task", "dance"], "task 'dance' is unknown"),
    (["--duration", "0"], "--duration 0"),
    (["--duration", "-1"], "--duration -1"),
    (["--duration", "nan"], "--duration nan"),
    (["--duration", "1e6"], "less than or equal to 3600"),
    (["--duration", "200"], "--duration 200: at most 120 s at once; give --window for more"),
    (["--window", "1", "--audio", "MEDIA/tone.wav"], "--window makes a long clip of texts"),
    (["--duration", "0.01"], "duration 0.01"),
    (["--seed", "one"], "--seed one: Input should be a valid integer"),
    (["--steps", "0"], "--steps 0"),
    (["--batch", "0"], "--batch 0"),
    (["--text-scale", "2,3,4"], "--text-scale 2,3,4"),
    (["--text-scale", "high"], "--text-scale high"),
    (["--guidance", "text", "--context-scale", "2"], "--context-scale has no effect"),
    (["--guidance", "some"], "invalid choice: 'some'"),
    (["--attention", "some"], "--attention 'some' is unknown; choose one of native"),
    (["--device", "toaster"], "--device toaster"),
    (["--output", "OUT/x.avi"], "x.avi: task t2av writes .mp4"),
    (["--output", "OUT/x.mp4", "--task", "t2a"], "task t2a writes .wav"),
    (["--output", "BAD/gap.txt/x.mp4"], "gap.txt is no folder"),
    (["--prompt", " "], "--prompt is empty"),
    (["--prompts", "BAD/gap.txt"], "gap.txt, line 2"),
    (["--prompts", "BAD/empty.txt"], "the file is empty"),
    (["--prompts", "BAD/latin.txt"], "not UTF-8"),
    (["--prompts", "BAD/nothing.txt"], "nothing.txt: cannot be read (no such file)"),
    (["--timed-prompts", "BAD/late.txt"], "late.txt: a text begins at 9 s"),
    (["--timed-prompts", "BAD/gap.txt"], "gap.txt, line 1"),
    (["--checkpoint", "BAD/part"], "part: audio_codec/config.json is missing"),
    (["--checkpoint", "BAD"], "model_index.json is missing"),
]


@pytest.mark.parametrize(("argv", "said"), BAD, ids=[" ".join(argv) for argv, _ in BAD])
def test_bad_input_is_one_line_and_writes_nothing(
    argv: list[str],
    said: str,
    bad: Path,
    media: Path,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = [] if {"--prompt", "--prompts", "--timed-prompts"} & set(argv) else ["--prompt", "A bell."]
    line = ["--checkpoint", str(checkpoint), "--output", "OUT/x.mp4", "--steps", "1", *text, *argv]
    for name, folder in (("BAD", bad), ("MEDIA", media), ("OUT", tmp_path / "out")):
        line = [part.replace(name, str(folder), 1) if part.startswith(name) else part for part in line]
    with pytest.raises(SystemExit) as stop:
        run_main(lambda: sample_joint.main(line))
    error = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == 2 and error.startswith("error: ") and said in error
    assert not (tmp_path / "out").exists()


def test_given_files_are_never_overwritten(make, media: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    given = shutil.copy(media / "clip.mp4", tmp_path / "out/clip.mp4")
    before = Path(given).read_bytes()
    with pytest.raises(SystemExit):
        run_main(lambda: make("--video", given))
    assert Path(given).read_bytes() == before


def test_the_index_of_the_checkpoint_is_what_load_checks(checkpoint: Path, tmp_path: Path, make) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "stranger")
    index = json.loads((folder / "model_index.json").read_text())
    index["text_encoder"][0] = "antigravity"
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(SystemExit):
        run_main(lambda: make("--checkpoint", folder))
    assert "antigravity" not in sys.modules


def test_a_checkpoint_of_the_video_alone_names_the_other_script(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As scripts/train_mtv.py writes one of CogVideoX."""
    shutil.copytree(checkpoint, tmp_path / "video")
    index = json.loads((tmp_path / "video/model_index.json").read_text())
    empty = {"audio_codec": [None, None], "audio_scheduler": [None, None]}
    (tmp_path / "video/model_index.json").write_text(json.dumps(index | empty))
    with pytest.raises(SystemExit) as stop:
        line = ["--checkpoint", str(tmp_path / "video"), "--prompt", "A bell.", "--output", str(tmp_path / "out.mp4")]
        run_main(lambda: sample_joint.main(line))
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1
    assert "no audio_codec and no audio_scheduler" in error and "scripts/sample_mtv.py" in error


def test_beside_its_result_a_sample_writes_next_to_nothing(checkpoint: Path, tmp_path: Path) -> None:
    words = ["--checkpoint", checkpoint, "--prompt", "A bell rings.", "--steps", "12", "--output", tmp_path / "x.mp4"]
    command = [sys.executable, SCRIPTS / "sample_joint.py", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path / 'x.mp4'}\n"
    assert len(done.stderr.split()) < 40, done.stderr


def test_frames_a_second_are_those_of_the_file(make, media: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model that is not told its frame rate may be asked for another one, with a warning."""
    info = probe(make("--fps", 24, "--duration", 1))
    assert info.fps == 24 and info.video_end == pytest.approx(1)
    warning = "warning: --fps 24: the checkpoint's model was trained at 8 and is not told the frame rate"
    assert warning in capsys.readouterr().err
    make("--fps", 8, "--video", media / "mute.mp4", "--duration", 1)  # v2a: the model sees so many pictures of it
    assert "warning" not in capsys.readouterr().err
