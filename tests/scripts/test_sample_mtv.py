"""sample_mtv.py on a tiny random checkpoint: the given sound is carried, options act, bad input writes nothing."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import sample_mtv
import soundfile
import torch
from PIL import Image

from ccl.pipeline import CCLPipeline
from mtv.control import MSTControlNet
from mtv.kept_windows import KeptWindows
from mtv.pipeline import MTVPipeline
from shared.checkpoint.folder import save_checkpoint
from shared.data.media import probe, read_audio, read_video, write_video
from shared.encoders.audio import LogMel
from shared.puppets.script import sample_spec
from shared.puppets.sound import synthesise
from shared.utils.errors import UserError, run_main

SCRIPTS = Path(__file__).parents[2] / "scripts"

FPS, SECONDS = 8.0, 1.5
RED, GREEN = (200, 40, 60), (40, 180, 90)


@pytest.fixture(scope="module")
def driven(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny joint checkpoint with a control network of random weights for two speakers."""
    torch.manual_seed(1)
    tracks = dict.fromkeys(("speech", "effects", "music"), (5, 1, 256))
    control = MSTControlNet(
        backbone_dim=12, backbone_heads=1, num_blocks=1, tracks=tracks,
        token_dim=16, tokens=2, interaction_blocks=1, heads=2, ffn_dim=16, hidden_dim=16,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in control.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    joint = CCLPipeline.from_pretrained(checkpoint)
    folder = tmp_path_factory.mktemp("driven") / "tiny"
    save_checkpoint(MTVPipeline.from_pipe(joint, control=control, audio_encoder=LogMel()), folder, "a card")
    return folder


def wave(pitch: float, rate: int, seconds: float = SECONDS) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * pitch * time) * np.exp(-time)).astype(np.float32)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tracks of 1.5 s of several rates, channels and sample formats, one a little short; pictures; a video."""
    folder = tmp_path_factory.mktemp("media")
    soundfile.write(folder / "voice.wav", np.stack([wave(300, 44100), wave(450, 44100)], 1), 44100)
    soundfile.write(folder / "other.wav", wave(200, 16000), 16000)
    soundfile.write(folder / "steps.wav", wave(900, 16000), 16000, "PCM_U8")
    soundfile.write(folder / "piano.wav", wave(600, 22050), 22050)
    soundfile.write(folder / "brief.flac", wave(900, 16000, 0.5), 16000)
    Image.new("RGB", (50, 40), RED).save(folder / "red.png")
    Image.new("RGB", (40, 50), GREEN).save(folder / "green.png")
    frames = np.broadcast_to(np.uint8(90), (36, 40, 48, 3))
    write_video(folder / "film.mp4", frames, 24, wave(700, 32000)[None], 32000)
    write_video(folder / "mute.mp4", frames, 24)
    (folder / "story.txt").write_text("0, A bell rings.\n0.5, Rain falls on a field.\n")
    return folder


@pytest.fixture
def make(driven: Path, media: Path, tmp_path: Path):
    """make("--speech", "voice.wav", ...) -> tmp_path/out/NAME, sampled in two steps; names of `media` are its files."""

    def run(*argv: object, name: str = "clip.mp4") -> Path:
        out = tmp_path / "out" / name
        text = [] if "--timed-prompts" in argv else ["--prompt", "A bell rings."]
        parts = ["--checkpoint", driven, "--output", out, "--steps", 2, *text, *argv]
        sample_mtv.main([str(media / part) if (media / str(part)).is_file() else str(part) for part in parts])
        return out

    return run


def seen(path: Path) -> np.ndarray:
    return read_video(path, FPS).astype(int)


def test_tracks_make_a_video_that_carries_their_sum(make, media: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Stereo, 8 bits and three rates: mixed at the highest, in stereo."""
    out = make("--speech", "voice.wav", "--effects", "steps.wav", "--music", "piano.wav")
    assert capsys.readouterr().out.strip() == str(out)
    with av.open(str(out)) as container:
        assert [stream.codec_context.name for stream in container.streams] == ["h264", "aac"]
    info = probe(out)
    assert (info.width, info.height, info.fps, info.rate, info.channels) == (32, 32, FPS, 44100, 2)
    assert info.video_end == pytest.approx(SECONDS) and info.audio_end == pytest.approx(SECONDS)
    assert len(seen(out)) == 12
    heard = read_audio(out, 44100, mono=False, end=1.4)
    parts = [read_audio(media / name, 44100, False, end=1.4) for name in ("voice.wav", "steps.wav", "piano.wav")]
    error = heard - (parts[0] + parts[1] + parts[2])
    assert np.square(error).mean() < 0.01 * np.square(heard).mean()
    assert [path.name for path in out.parent.iterdir()] == ["clip.mp4"]


def test_frames_a_second_are_those_of_the_file(make) -> None:
    info = probe(make("--speech", "voice.wav", "--fps", 2 * FPS, "--window", 1))
    assert info.fps == 2 * FPS and info.video_end == pytest.approx(SECONDS)


def test_one_track_of_eight_bits_keeps_its_rate(make) -> None:
    info = probe(make("--effects", "steps.wav"))
    assert (info.rate, info.channels) == (16000, 1)


def test_one_file_of_two_people_is_as_two_files_of_one(make, media: Path, tmp_path: Path, capsys) -> None:
    """The same frames and sound, to the bit, as from the tracks that the file is the sum of."""
    pause, spoken = np.zeros(3200, np.float32), [voice(220), voice(110)]
    first, second = (
        np.concatenate([pause, (1 - k) * spoken[0], pause, k * spoken[1], pause]).astype(np.float32) for k in (0, 1)
    )
    for name, sound in (("talk", first + second), ("first", first), ("second", second)):
        soundfile.write(tmp_path / f"{name}.wav", sound, 16000, "FLOAT")
    talk = ("--speech", tmp_path / "talk.wav", "--lossless")
    one = make(*talk, "--speakers", 2, "--embedder", "pitch", name="one.mkv")
    told = capsys.readouterr().err
    assert "talk.wav: Person1 speaks from 0." in told and "talk.wav: Person2 speaks from 0." in told
    tracks = ("--speech", tmp_path / "first.wav", "--speech2", tmp_path / "second.wav")
    two, alone = make(*tracks, "--lossless", name="two.mkv"), make(*talk, name="alone.mkv")
    assert np.array_equal(seen(one), seen(two)) and not np.array_equal(seen(one), seen(alone))
    assert np.array_equal(read_audio(one, 16000), read_audio(two, 16000))


def test_a_lossless_video_has_the_frames_that_were_made_and_the_sound_that_was_given(
    make, driven: Path, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, write = [], KeptWindows.video
    monkeypatch.setattr(KeptWindows, "video", lambda self: shown.append(np.array(write(self))) or write(self))
    out = make("--effects", "steps.wav", "--window", 1, "--lossless", name="clip.mkv")
    with av.open(str(out)) as container:
        assert [stream.codec_context.name for stream in container.streams] == ["ffv1", "flac"]
    assert np.array_equal(read_video(out, FPS), shown[-1])
    assert np.array_equal(read_audio(out, 16000), read_audio(media / "steps.wav", 16000))
    stereo = make("--speech", "voice.wav", "--lossless", "--preview", name="two.mkv")
    assert np.array_equal(read_audio(stereo, 44100, mono=False), read_audio(media / "voice.wav", 44100, mono=False))
    assert sorted(path.name for path in out.parent.iterdir()) == ["clip.mkv", "two.mkv"]


def test_a_mix_of_two_people_has_their_tracks(make, tmp_path: Path, capsys) -> None:
    spec = next(s for s in (sample_spec(9, k, "full") for k in range(400)) if kinds(s) == ["man", "woman"])
    mix = sum(synthesise(spec).values())
    soundfile.write(tmp_path / "mix.wav", mix, spec.rate)
    make("--audio", tmp_path / "mix.wav", "--demixer", "dsp", "--speakers", 2, "--embedder", "pitch")
    assert "mix.wav, its speech: Person2 speaks from" in capsys.readouterr().err


def kinds(spec) -> list[str]:
    return sorted(person.kind for person in spec.characters if person.syllables)


def voice(hertz: float) -> np.ndarray:
    time = np.arange(8000) / 16000
    return (0.1 * np.sum([np.sin(2 * np.pi * k * hertz * time) / k for k in range(1, 9)], axis=0)).astype(np.float32)


def test_a_mix_is_taken_apart_and_carried_itself(make, media: Path) -> None:
    out = make("--audio", "film.mp4", "--demixer", "dsp", "--duration", 1)
    info = probe(out)
    assert (info.rate, info.channels) == (32000, 1) and info.duration == pytest.approx(1, abs=0.5 / FPS)
    given, heard = (read_audio(path, 32000, end=0.9)[0] for path in (media / "film.mp4", out))
    assert np.corrcoef(given, heard)[0, 1] > 0.99


def test_a_long_video_is_made_in_windows_and_keeps_its_keyframes(make, media: Path) -> None:
    keyframe = f"1.25={media / 'green.png'}"  # frame 10, in the second window of frames 4 .. 11
    frames = seen(make("--effects", "steps.wav", "--window", 1, "--image", "red.png", "--keyframe", keyframe))
    assert len(frames) == 12
    assert abs(frames[0] - RED).mean() < 4 and abs(frames[10] - GREEN).mean() < 4
    assert abs(frames[4] - RED).mean() > 4 and abs(frames[4] - GREEN).mean() > 4
    plain = seen(make("--effects", "steps.wav", "--image", "red.png", "--keyframe", keyframe, name="plain.mp4"))
    assert not np.array_equal(frames, plain)


def test_a_stopped_long_video_plays_so_far_and_goes_on_to_the_same_bytes(make, monkeypatch, capsys) -> None:
    """Ctrl-C when the first of two windows is finished, of tracks of unequal length, with a preview of it; a kill in
    the second leaves frames that do not count."""
    line = ("--effects", "steps.wav", "--music", "brief.flac", "--window", 1)
    whole = make(*line, name="whole.mp4").read_bytes()
    add = KeptWindows.add

    def stopped(self: KeptWindows, new: np.ndarray, progress) -> None:
        add(self, new, progress)
        if progress.done == 1:
            assert probe(self.folder / "so_far.mp4").video_end == pytest.approx(9 / FPS)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(KeptWindows, "add", stopped)
    with pytest.raises(SystemExit) as stop:
        run_main(lambda: make(*line, "--preview"))
    monkeypatch.undo()
    *lines, said = capsys.readouterr().err.splitlines()
    assert sum(line.endswith("clip.mp4.partial/so_far.mp4 has the first 9 frames") for line in lines) == 1
    assert stop.value.code == 130 and re.fullmatch(
        r"stopped by SIGINT; .*so_far\.mp4 has the first 9 frames: --resume .*", said
    )
    folder = Path(said.split("; ")[1].split(" has ")[0]).parent
    info = probe(folder / "so_far.mp4")
    assert info.has_audio and info.video_end == pytest.approx(9 / FPS)
    with pytest.raises(UserError, match=r"clip\.mp4\.partial holds the first 9 frames of clip\.mp4: --resume goes on"):
        make(*line)
    with pytest.raises(UserError, match="holds windows of other options, inputs or weights: give the same as before"):
        make(*line, "--resume", "--seed", 1)
    with open(folder / "frames", "ab") as frames:
        frames.write(b"half a window")
    out = make(*line, "--resume")
    assert out.read_bytes() == whole and sorted(path.name for path in out.parent.iterdir()) == ["clip.mp4", "whole.mp4"]
    assert make(*line, "--resume").read_bytes() == whole  # nothing to go on from: from the beginning


def test_a_killed_long_video_plays_so_far_too(make, monkeypatch) -> None:
    """In a child that is killed at once when its first window is kept; it had no time to do anything more."""
    line = ("--effects", "steps.wav", "--window", 1)
    whole = make(*line, name="whole.mp4")
    add = KeptWindows.add

    def killed(self: KeptWindows, new: np.ndarray, progress) -> None:
        add(self, new, progress)
        os.kill(os.getpid(), signal.SIGKILL)

    if (child := os.fork()) == 0:
        monkeypatch.setattr(KeptWindows, "add", killed)
        make(*line)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    played = probe(whole.with_name("clip.mp4.partial") / "so_far.mp4")
    assert played.has_audio and played.video_end == pytest.approx(9 / FPS)
    out = make(*line, "--resume")
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in out.parent.iterdir()) == ["clip.mp4", "whole.mp4"]


def test_options_change_the_video(make) -> None:
    base = ("--speech", "voice.wav", "--effects", "steps.wav", "--music", "piano.wav", "--duration", 1)
    variants = [
        base,
        (*base, "--seed", 1),
        (*base, "--negative-prompt", "Noise."),
        (*base, "--text-scale", 4, "--speech-scale", 1, "--effects-scale", 0, "--music-scale", 3),
        (*base, "--speech2", "other.wav"),
        (*base, "--timed-prompts", "story.txt"),
        (*base, "--timed-prompts", "story.txt", "--fade", 0.5),
        base[2:],
    ]
    videos = [seen(make(*more, name=f"{i}.mp4")) for i, more in enumerate(variants)]
    for i, video in enumerate(videos):
        assert all(not np.array_equal(video, other) for other in videos[:i]), variants[i]


def test_a_person_may_have_no_file(make) -> None:
    assert len(seen(make("--speech2", "other.wav"))) == 12


def test_tracks_of_any_length_are_filled_to_the_longest_with_a_warning(make, capsys) -> None:
    out = make("--effects", "brief.flac", "--music", "piano.wav")
    warned = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(warned) == 1 and "brief.flac lasts 0.500 s" in warned[0] and "piano.wav 1.500 s" in warned[0]
    assert len(seen(out)) == 12 and probe(out).audio_end == pytest.approx(SECONDS)


def test_bfloat16_runs(make) -> None:
    assert probe(make("--dtype", "bfloat16", "--speech", "voice.wav", "--duration", 1)).has_audio


def test_arguments_are_checked_before_torch_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys, sample_mtv\n"
        "from shared.utils.errors import UserError\n"
        "try: sample_mtv.main('--prompt x --output x.mp4 --music y.wav --checkpoint nowhere'.split())\n"
        "except UserError: sys.exit('torch' in sys.modules)\n"
        "sys.exit(3)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, check=False).returncode == 0


def test_a_process_of_its_own_finds_the_backbone_through_the_index(driven: Path, media: Path, tmp_path: Path) -> None:
    line = ["--checkpoint", driven, "--music", media / "piano.wav", "--prompt", "x", "--output", tmp_path / "x.mp4"]
    ran = subprocess.run(
        [sys.executable, SCRIPTS / "sample_mtv.py", *line, "--steps", "1"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert len(seen(tmp_path / "x.mp4")) == 12


def test_the_joint_pipeline_keeps_the_parts_of_mtv_in_a_process_of_its_own(driven: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from ccl.pipeline import CCLPipeline\n"
        "CCLPipeline.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[2])\n"
    )
    line = [sys.executable, "-c", code, driven, tmp_path / "again"]
    ran = subprocess.run(line, cwd=SCRIPTS.parent, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "again/control/config.json").is_file()


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        sample_mtv.main(["--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0 and "--keyframe SECONDS=IMAGE" in text and "--speech3" not in text


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory, driven: Path) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    for name in ("broken.wav", "broken.png", "broken.th"):
        (folder / name).write_bytes(b"not media " * 50)
    (folder / "zero.wav").write_bytes(b"")
    soundfile.write(folder / "empty.wav", np.zeros(0, np.float32), 16000)
    soundfile.write(folder / "nan.wav", np.full(24000, np.nan, np.float32), 16000, subtype="FLOAT")
    soundfile.write(folder / "quiet.wav", np.zeros(24000, np.float32), 16000)
    soundfile.write(folder / "low.wav", wave(300, 8000), 8000)
    (folder / "order.txt").write_text("0, A bell.\n2, Rain.\n1, A drum.\n")
    (folder / "late.txt").write_text("0, A bell.\n9, A drum.\n")
    (folder / "gap.txt").write_text("A bell.\n")
    shutil.copytree(driven, folder / "part")
    (folder / "part/control/config.json").unlink()
    return folder


MUSIC = ["--music", "MEDIA/piano.wav"]
SPEECH = ["--speech", "MEDIA/voice.wav"]
BAD = [
    ([], "no sound is given; --speech, --effects or --music are needed"),
    (["--music", "BAD/nothing.wav"], "nothing.wav: no such file"),
    (["--speech", "BAD/broken.wav"], "broken.wav: broken"),
    (["--effects", "BAD/zero.wav"], "zero.wav: the file is empty"),
    (["--effects", "BAD/empty.wav"], "empty.wav: "),
    (["--music", "BAD/nan.wav"], "nan.wav: the sound has NaN"),
    (["--audio", "MEDIA/mute.mp4"], "mute.mp4: has no sound"),
    (["--audio", "BAD/low.wav"], "at least 16000 Hz is needed"),
    (["--audio", "MEDIA/film.mp4", *MUSIC], "--audio and --music: a mix or its tracks"),
    (["--audio", "MEDIA/film.mp4", "--demixer", "magic"], "--demixer magic: give one of"),
    (["--audio", "MEDIA/film.mp4", "--demixer", "demucs-cdx23"], "needs --demixer-checkpoint"),
    (["--audio", "MEDIA/film.mp4", "--demixer-checkpoint", "BAD/broken.th"], "dsp: has no checkpoint"),
    ([*MUSIC, "--demixer", "dsp"], "take a mix apart"),
    ([*MUSIC, "--speakers", "2"], "--speakers tells the voices in --speech, or in a mix as --audio, apart"),
    ([*SPEECH, "--speakers", "0"], "--speakers 0: Input should be greater than or equal to 2"),
    ([*SPEECH, "--speech2", "MEDIA/other.wav", "--speakers", "2"], "--speakers and --speech2: one file of several"),
    ([*SPEECH, "--embedder", "pitch"], "--embedder tells the voices of --speakers apart; give both"),
    (
        [*SPEECH, "--speakers", "2", "--embedder", "nowhere"],
        "embedder nowhere: is unknown; give pitch, resemblyzer, or",
    ),
    ([*SPEECH, "--speakers", "2", "--embedder", "pitch"], "voice.wav: one voice is heard, --speakers asks for 2"),
    (["--speech", "BAD/quiet.wav", "--speakers", "2", "--embedder", "pitch"], "quiet.wav: nobody is heard to speak"),
    (["--audio", "MEDIA/film.mp4", "--speakers", "2", "--embedder", "pitch"], "film.mp4, its speech: nobody is heard"),
    ([*MUSIC, "--duration", "4"], "the sound lasts 1.50 s; --duration 4 is longer"),
    ([*MUSIC, "--duration", "nan"], "--duration nan"),
    ([*MUSIC, "--duration", "0"], "--duration 0"),
    ([*MUSIC, "--window", "-1"], "--window -1"),
    ([*MUSIC, "--window", "0.5"], "window of 5 frames shares 5"),
    ([*MUSIC, "--steps", "0"], "--steps 0"),
    ([*MUSIC, "--speech-scale", "nan"], "--speech-scale nan"),
    ([*MUSIC, "--seed", "one"], "--seed one: Input should be a valid integer"),
    ([*MUSIC, "--attention", "some"], "--attention 'some' is unknown; choose one of native"),
    ([*MUSIC, "--device", "toaster"], "--device toaster"),
    ([*MUSIC, "--image", "BAD/nothing.png"], "nothing.png: no such file"),
    ([*MUSIC, "--keyframe", "1=BAD/broken.png"], "broken.png: broken"),
    ([*MUSIC, "--keyframe", "BAD/broken.png"], "SECONDS=IMAGE is needed"),
    ([*MUSIC, "--keyframe=-1=MEDIA/red.png"], "SECONDS=IMAGE is needed"),
    ([*MUSIC, "--keyframe", "1.5=MEDIA/red.png"], "--keyframe 1.5: the video ends at 1.5 s"),
    ([*MUSIC, "--image", "MEDIA/red.png", "--keyframe", "0=MEDIA/red.png"], "a picture at 0 s already"),
    ([*MUSIC, "--keyframe", "0.3=MEDIA/red.png", "--keyframe", "0.4=MEDIA/red.png"], "0.3 s and 0.4 s share a latent"),
    ([*MUSIC, "--speech3", "MEDIA/other.wav"], "3 speakers; this checkpoint knows 2"),
    ([*MUSIC, "--prompt", " "], "--prompt is empty"),
    ([*MUSIC, "--timed-prompts", "BAD/order.txt"], "order.txt: timed prompts are out of order"),
    ([*MUSIC, "--timed-prompts", "BAD/late.txt"], "late.txt: a text begins at 9 s"),
    ([*MUSIC, "--timed-prompts", "BAD/gap.txt"], "gap.txt, line 1"),
    ([*MUSIC, "--timed-prompts", "BAD/nothing.txt"], "nothing.txt: cannot be read (no such file)"),
    ([*MUSIC, "--output", "OUT/x.avi"], "x.avi: an .mp4 is written"),
    ([*MUSIC, "--lossless"], "x.mp4: --lossless writes .mkv; give a name that ends so"),
    ([*MUSIC, "--output", "BAD/gap.txt/x.mp4"], "gap.txt is no folder"),
    ([*MUSIC, "--checkpoint", "JOINT"], "no control and no audio_encoder, this is a joint model only"),
    ([*MUSIC, "--checkpoint", "BAD/part"], "part: control/config.json is missing"),
    ([*MUSIC, "--checkpoint", "BAD"], "model_index.json is missing"),
]


@pytest.mark.parametrize(("argv", "said"), BAD, ids=[" ".join(argv) or "nothing" for argv, _ in BAD])
def test_bad_input_is_one_line_and_writes_nothing(
    argv: list[str],
    said: str,
    bad: Path,
    media: Path,
    checkpoint: Path,
    driven: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = [] if {"--prompt", "--timed-prompts"} & set(argv) else ["--prompt", "A bell."]
    line = ["--checkpoint", str(driven), "--output", "OUT/x.mp4", "--steps", "1", *text, *argv]
    for name, folder in (("BAD", bad), ("MEDIA", media), ("OUT", tmp_path / "out"), ("JOINT", checkpoint)):
        line = [part.replace(name, str(folder), 1) for part in line]
    with pytest.raises(SystemExit) as stop:
        run_main(lambda: sample_mtv.main(line))
    error = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == 2 and error.startswith("error: ") and said in error
    assert not (tmp_path / "out").exists()


def test_given_files_are_never_overwritten(make, media: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    given = shutil.copy(media / "film.mp4", tmp_path / "out/clip.mp4")
    before = Path(given).read_bytes()
    with pytest.raises(SystemExit):
        run_main(lambda: make("--audio", given))
    assert Path(given).read_bytes() == before
