"""Options of joint sampling: what is made, where it goes, how it is guided; the tests of sample_joint.py run it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccl.generate import SCALES, JointOptions, guidance, output_files
from ccl.guidance import Form, Guidance
from ccl.prompt_list import read_prompts
from shared.utils.cli import parse
from shared.utils.errors import UserError


def test_guidance_options() -> None:
    def chosen(*argv: str) -> Guidance:
        return guidance(parse(JointOptions, None, ["--prompt", "x", "--output", "x.mp4", *argv]))

    assert chosen() == Guidance()
    assert chosen("--guidance", "text", "--text-scale", "3,2") == Guidance(Form.TEXT, text_scale=(3, 2))
    assert chosen("--context-scale", "0") == Guidance(context_scale=(0, 0))
    assert chosen("--interval", "0.2,0.9", "--rescale", "0.5") == Guidance(interval=(0.2, 0.9), rescale=0.5)
    assert list(SCALES) == [form.value for form in Form]
    assert chosen("--guidance", "text", "--skip-layers", "11,9") == Guidance(Form.TEXT, skip_layers=(9, 11))
    assert chosen("--skip-layers", "11").skip_layers == (11,)
    with pytest.raises(UserError, match="--skip-layers has no effect with --guidance context; leave it out"):
        chosen("--guidance", "context", "--skip-layers", "11")
    with pytest.raises(UserError, match=r"--skip-layers 1\.5: whole numbers between commas are needed, as 9,11"):
        chosen("--skip-layers", "1.5")


def test_the_task_follows_what_is_given() -> None:
    def task(*argv: str) -> str:
        return parse(JointOptions, None, ["--prompt", "x", "--output", "x.mp4", *argv]).chosen_task

    assert [task(), task("--audio", "a.wav"), task("--video", "a.mp4"), task("--task", "t2v")] == [
        "t2av", "a2v", "v2a", "t2v",
    ]  # fmt: skip
    whole = ["--audio", "a.wav", "--video", "a.mp4"]
    assert task(*whole, "--keep", "0-1") == task("--video", "a.mp4", "--keep", "0-1,2-3") == "t2av"
    assert task("--given-speech", "a.wav") == task("--given-effects", "a.wav") == "part"
    assert task(*whole, "--keep-audio", "0-1", "--task", "v2a") == "v2a"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--keep", "0-1"], "keep: task t2av makes no stream of which a part is given"),
        (["--keep-audio", "0-1", "--video", "x.mp4"], "keep_audio: task t2av makes no sound of which a part is given"),
        (["--keep", "1-0", "--video", "x.mp4"], "--keep 1-0: seconds from and to"),
        (["--keep", "0-1,2", "--video", "x.mp4"], "--keep 0-1,2: seconds from and to"),
        (["--given-speech", "a.wav", "--given-effects", "b.wav"], "--given-effects: not allowed with --given-speech"),
        (["--given-speech", "a.wav", "--task", "t2av"], "task t2av has no use for a given track"),
        (["--task", "part"], "task part needs a given track"),
        (["--duration", "2", "--num-frames", "9"], "--num-frames: not allowed with --duration"),
        (["--num-frames", "0"], "--num-frames 0"),
        (["--interval", "0.9,0.2"], "--interval 0.9,0.2: the first must be the lower"),
        (["--interval", "0.5,2"], r"--interval 2\.0: Input should be less than or equal to 1"),
        (["--rescale", "1.5"], "--rescale 1.5"),
        (["--guidance", "none", "--rescale", "0.5"], "--interval and --rescale have no effect with --guidance none"),
        (["--size", "64y64"], "--size 64y64: give pixels as 64"),
        (["--task", "t2a", "--size", "64"], "--size has no effect with --task t2a"),
        (["--task", "t2v", "--lossless"], "--lossless writes what was made of both streams; task t2v makes one"),
    ],
)
def test_options_that_do_not_go_together_are_refused(words: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse(JointOptions, None, ["--prompt", "x", "--output", "x.mp4", *words])


def test_lossless_files_end_in_mkv(tmp_path: Path) -> None:
    options = parse(JointOptions, None, ["--prompt", "x", "--lossless", "--output", str(tmp_path / "x.mp4")])
    with pytest.raises(UserError, match=r"x\.mp4: --lossless writes \.mkv"):
        output_files(options, None)


def test_one_text_or_a_file_of_texts_is_needed() -> None:
    for words, said in (([], "one of the options --prompt --prompts --timed-prompts is needed"),
                        (["--prompt", "x", "--prompts", "y"], "--prompts: not allowed with --prompt")):  # fmt: skip
        with pytest.raises(UserError, match=said):
            parse(JointOptions, None, ["--output", "x.mp4", *words])


def test_files_of_many_prompts_are_numbered(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("\ufeffA ball. \nA bell.\n", encoding="utf-8")
    assert [line.prompt for line in read_prompts(tmp_path / "prompts.txt")] == ["A ball.", "A bell."]
    out = tmp_path / "deep/x.mp4"
    options = parse(JointOptions, None, ["--prompts", "prompts.txt", "--output", str(out)])
    assert output_files(options, 2) == [tmp_path / "deep/x_000.mp4", tmp_path / "deep/x_001.mp4"]
    assert output_files(options, None) == [out]


def test_a_sound_alone_has_no_frames_a_second() -> None:
    words = ["--prompt", "x", "--fps", "24"]
    assert parse(JointOptions, None, [*words, "--output", "x.mp4"]).given_arguments() == {"fps": 24}
    with pytest.raises(UserError, match="--fps has no effect with --task t2a"):
        parse(JointOptions, None, [*words, "--output", "x.wav", "--task", "t2a"])
    with pytest.raises(UserError, match="--fps"):
        parse(JointOptions, None, ["--prompt", "x", "--fps", "0", "--output", "x.mp4"])
