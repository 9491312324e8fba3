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
