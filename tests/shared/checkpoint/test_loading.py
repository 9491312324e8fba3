"""Options about the model and a sample: the shipped checkpoint, adapters, and which files are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from shared.checkpoint.folder import check_checkpoint
from shared.checkpoint.loading import (
    SamplingOptions,
    check_output,
    existing_folder,
    few_step_checkpoint,
    shipped_checkpoint,
)
from shared.utils.cli import parse
from shared.utils.errors import UserError


def test_the_shipped_checkpoint_is_whole_and_the_default() -> None:
    check_checkpoint(shipped_checkpoint())
    check_checkpoint(few_step_checkpoint())
    assert parse(SamplingOptions, None, []).checkpoint == shipped_checkpoint()


def test_adapters_have_a_file_and_a_scale(tmp_path: Path) -> None:
    file = tmp_path / "style=2" / "pytorch_lora_weights.safetensors"
    file.parent.mkdir()
    layer = "transformer.blocks.0.attn1.to_q"
    save_file({f"{layer}.lora_A.weight": torch.zeros(2, 4), f"{layer}.lora_B.weight": torch.zeros(4, 2)}, file)
    whole, scaled = parse(SamplingOptions, None, ["--lora", str(file.parent), "--lora", f"{file}=-0.5"]).adapters()
    assert (whole, scaled) == ((file, 1.0), (file, -0.5))
    for words, said in (
        (["--lora", f"{file}=much"], "'much' is no scale"),
        (["--lora", f"{file}=nan"], "'nan' is no scale"),
        (["--lora", str(tmp_path / "none")], "none: no such file or folder"),
        (["--fuse-lora"], "--fuse-lora: there is nothing to fuse"),
    ):
        with pytest.raises(UserError, match=said):
            parse(SamplingOptions, None, words)


def test_what_is_not_given_is_left_to_the_pipeline() -> None:
    assert parse(SamplingOptions, None, []).given_arguments() == {}
    given = parse(SamplingOptions, None, ["--steps", "3", "--negative-prompt", ""]).given_arguments()
    assert given == {"num_inference_steps": 3, "negative_prompt": ""}
    with pytest.raises(UserError, match="--prompt is empty"):
        parse(SamplingOptions, None, ["--prompt", " "])


def test_a_fade_belongs_to_texts_over_time() -> None:
    assert parse(SamplingOptions, None, ["--timed-prompts", "story.txt", "--fade", "0.4"]).fade == 0.4
    for words, said in (
        (["--fade", "0.4"], "--fade has no effect without --timed-prompts"),
        (["--timed-prompts", "story.txt", "--fade", "-1"], "--fade -1: Input should be greater than or equal to 0"),
        (["--timed-prompts", "story.txt", "--fade", "nan"], "--fade nan"),
    ):
        with pytest.raises(UserError, match=said):
            parse(SamplingOptions, None, words)


def test_a_file_that_is_given_or_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "given.mp4").touch()
    deep = tmp_path / "a/b/x.mp4"
    assert existing_folder(deep) == tmp_path
    check_output(deep, [deep], [tmp_path / "given.mp4", None])
    for file in (tmp_path / "given.mp4", tmp_path / "a" / ".." / "given.mp4", tmp_path):
        (tmp_path / "a").mkdir(exist_ok=True)
        with pytest.raises(UserError, match="is a folder or a given file; give another name"):
            check_output(file, [file], [tmp_path / "given.mp4"])
    below = tmp_path / "given.mp4" / "x.mp4"
    with pytest.raises(UserError, match=r"given\.mp4 is no folder that can be written to"):
        check_output(below, [below], [])
