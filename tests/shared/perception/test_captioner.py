"""Tiny models of transformers' own classes answer a conversation, and what is none is one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import caption_models as kinds
import numpy as np
import pytest
import torch
from caption_models import save_captioner
from transformers import CLIPConfig

from shared.curation.chat import picture_part, sound_part, text_part
from shared.perception.captioner import Captioner, ChatProcessor
from shared.utils.errors import UserError

RATE = 16000
PICTURES = [np.random.default_rng(number).integers(0, 255, (24, 48, 3), np.uint8) for number in range(3)]


def conversation(sees: bool = True, hears: bool = False, seconds: float = 0.5) -> list[dict[str, Any]]:
    parts = [text_part("What is this?")] + [picture_part(pixels) for pixels in PICTURES] * sees
    sound = sound_part(np.zeros(round(seconds * RATE), np.float32), RATE)
    return [{"role": "user", "content": parts + [sound] * hears}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_captioner(tmp_path_factory.mktemp("models") / "random", kinds.qwen2_5_vl)


@pytest.mark.parametrize(
    ("kind", "sees", "hears"),
    [
        (kinds.qwen2_5_vl, True, False), (kinds.qwen3_vl, True, False), (kinds.llava_onevision, True, False),
        (kinds.idefics3, True, False), (kinds.qwen2_audio, False, True), (kinds.qwen2_5_omni, True, True),
    ],
)  # fmt: skip
def test_public_classes_answer_turn_by_turn(
    kind: Callable[[Any], kinds.Made], sees: bool, hears: bool, tmp_path: Path
) -> None:
    captioner = Captioner.load(save_captioner(tmp_path, kind, ["I am a fish", "a garden"]), dtype="float32")
    assert (captioner.chat.sees, captioner.chat.hears) == (sees, hears)
    talk = conversation(sees, hears)
    captioner.chat.check_parts(talk)
    assert captioner.answer(talk, 8) == "I am a fish"
    talk += [{"role": "assistant", "content": "I am a fish"}, {"role": "user", "content": "Again."}]
    assert captioner.answer(talk, 8) == "a garden"


def test_the_answer_follows_from_the_pictures_and_from_nothing_else(folder: Path) -> None:
    captioner = Captioner.load(folder, dtype="float32")
    prepared = captioner.chat.inputs(conversation(), 16)
    assert len(prepared["image_grid_thw"]) == 3
    assert "What is this?" in captioner.chat.processor.tokenizer.decode(prepared["input_ids"][0])
    answers = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        answers.append(captioner.answer(conversation(), 16))
    assert answers[0] == answers[1] and answers[0]
    other = conversation()
    other[0]["content"][1] = picture_part(255 - PICTURES[0])
    assert captioner.answer(other, 16) != answers[0]


def test_weights_are_in_the_precision_that_is_asked_for(folder: Path) -> None:
    captioner = Captioner.load(folder, dtype="bfloat16")
    assert captioner.model.dtype == torch.bfloat16 and captioner.answer(conversation(), 2)


def test_what_is_more_than_the_model_takes_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"a question of \d+ tokens and an answer of 4090; the model has 4096: fewer or"
    ):
        Captioner.load(folder).answer(conversation(), 4090)
    ears = ChatProcessor.load(save_captioner(tmp_path, kinds.qwen2_audio))
    with pytest.raises(UserError, match=r"5 s of sound; the model hears 4 s: a smaller shots\.most_seconds"):
        ears.inputs(conversation(False, True, 5), 1)
    with pytest.raises(UserError, match="the model hears 16000 samples a second; one that hears 8000 is needed"):
        ears.inputs([{"role": "user", "content": [sound_part(np.zeros(80, np.float32), 8000)]}], 1)


def changed(folder: Path, copy: Path, **files: str | None) -> Path:
    """Copy with some files written anew, or taken away."""
    shutil.copytree(folder, copy)
    for name, content in files.items():
        file = next(copy.glob(f"{name}.*"))
        file.unlink() if content is None else file.write_text(content)
    return copy


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"config": None}, r"no model that answers \(.*config\.json"),
        ({"config": '{"model_type": "nothing"}'}, r"no model that answers \(.*nothing"),
        ({"chat_template": None}, r"no chat template \(chat_template\.jinja\)"),
        ({"preprocessor_config": None}, r"no model that answers \(.*preprocessor_config\.json"),
        ({"model": None}, r"model\.safetensors is missing"),
        ({"model": "x"}, r"model\.safetensors is damaged"),
    ],
)
def test_a_folder_that_is_not_whole_is_one_line(
    files: dict[str, str | None], said: str, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said) as error:
        ChatProcessor.load(changed(folder, tmp_path / "copy", **files))
    assert "\n" not in str(error.value) and str(tmp_path / "copy") in str(error.value)


def test_no_weights_are_made_up(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = 2
    config["text_config"]["layer_types"] = ["full_attention"] * 2
    with pytest.raises(UserError, match="weights of Qwen2_5_VLForConditionalGeneration are missing"):
        ChatProcessor.load(changed(folder, tmp_path / "copy", config=json.dumps(config)))


def test_another_kind_of_model_is_refused(folder: Path, tmp_path: Path) -> None:
    CLIPConfig().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="clip is none that transformers answers with about pictures or sound"):
        ChatProcessor.load(tmp_path)


def test_code_in_the_folder_is_not_run(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForImageTextToText": "own.Own"}}
    copy = changed(folder, tmp_path / "copy", config=json.dumps(config))
    (copy / "own.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')\nclass Own: pass\n")
    with pytest.raises(UserError, match="no model that answers"):
        ChatProcessor.load(copy)
    assert not (tmp_path / "run").exists()


def test_a_template_that_leaves_pictures_out_is_told(folder: Path, tmp_path: Path) -> None:
    plain = "{% for message in messages %}{% for part in message.content %}{{ part.text }}{% endfor %}{% endfor %}"
    chat = ChatProcessor.load(changed(folder, tmp_path / "copy", chat_template=plain))
    with pytest.raises(UserError, match="its chat template leaves out pictures and sound"):
        chat.check_parts(conversation())
