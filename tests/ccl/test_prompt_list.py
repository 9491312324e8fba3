"""Lists of prompts: both kinds of file, wrong lines, what of a list is left to make, and whose clips are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccl.prompt_list import Clip, PromptLine, Record, batches, read_prompts
from shared.utils.errors import UserError


def write(folder: Path, text: str, name: str = "list.jsonl") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_a_line_is_a_prompt_or_an_object(tmp_path: Path) -> None:
    assert read_prompts(write(tmp_path, "A ball. \nA bell.\n", "list.txt")) == [
        PromptLine(prompt="A ball."), PromptLine(prompt="A bell."),
    ]  # fmt: skip
    text = '{"prompt": "A ball."}\n{"prompt": "A bell.", "audio_prompt": "Rain.", "seed": -3}\n'
    assert read_prompts(write(tmp_path, text)) == [
        PromptLine(prompt="A ball."), PromptLine(prompt="A bell.", audio_prompt="Rain.", seed=-3),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ('{"prompt": "x"}\n\n{"prompt": "y"}', "line 2: the line is empty"),
        ('{"prompt": "x"}\n{"prompt": " "}', "line 2: the prompt is empty"),
        ('{"text": "x"}', 'line 1: prompt: Field required; {"prompt": TEXT'),
        ('{"prompt": "x", "seed": 1.5}', "line 1: seed: Input should be a valid integer"),
        ('{"prompt": "x", "speed": 1}', "line 1: speed: Extra inputs"),
        ('"x"', "line 1: Input should be a valid dictionary"),
        ("{", "list.jsonl"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        read_prompts(write(tmp_path, text))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_left_of_a_list_are_whole_batches(tmp_path: Path) -> None:
    clips = [Clip(str(i), None, i, tmp_path / f"{i}.mp4") for i in range(5)]
    assert batches(clips, 2, set()) == [clips[:2], clips[2:4], clips[4:]]
    assert batches(clips, 2, {clip.file for clip in clips[:3]}) == [clips[2:4], clips[4:]]


def test_clips_of_other_settings_are_not_gone_on_with(tmp_path: Path) -> None:
    out, files = tmp_path / "new/clip.mp4", [tmp_path / f"new/clip_00{i}.mp4" for i in range(2)]
    first, second = files
    Record(out, files, "a", resume=True).begin()  # nothing is there yet
    first.touch()
    assert Record(out, files, "a", resume=True).made == {first}
    with pytest.raises(UserError, match=r"clip_000\.mp4 is of other options, prompts or weights; leave out --resume"):
        Record(out, files, "b", resume=True)
    Record(out, files, "b", resume=False).begin()  # and it was stopped when it had made the second
    second.touch()
    again = Record(out, files, "b", resume=True)
    again.begin()
    assert again.made == Record(out, files, "b", resume=True).made == {second}
    (tmp_path / "new/.clip.mp4.settings").unlink()
    with pytest.raises(UserError, match="nothing tells what made it"):
        Record(out, files, "b", resume=True)
