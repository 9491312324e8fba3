"""Tiny models of transformers' own classes that answer about pictures or sound, in folders as users have them.

Their weights are random, or such that they answer what is wished: nothing is added to the embedding of the last token
of the prompt, which says whose turn it is, so it alone decides the next one: a token that is a whole answer; and that
one decides that the answer ends.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from tokenizers import AddedToken, pre_tokenizers
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5OmniConfig,
    Qwen2_5OmniForConditionalGeneration,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    WhisperFeatureExtractor,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

WIDTH, POSITIONS = 32, 4096
END, PAD = "<|im_end|>", "<|endoftext|>"
IMAGE, VIDEO, AUDIO = "<image>", "<video>", "<|AUDIO|>"
MARKS = ["<|im_start|>", "<|turn1|>", "<|turn2|>", "<|v1|>", "<|v2|>", "<|a1|>", "<|a2|>"]
#: The prompt ends with whose turn it is, counted from 1.
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% for part in message.content %}"
    "{% if part.type == 'image' %}<|v1|><image><|v2|>{% elif part.type == 'audio' %}<|a1|><|AUDIO|><|a2|>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<|turn{{ (messages | length + 1) // 2 }}|>{% endif %}"
)


class Made(NamedTuple):
    """A model, the parts of its processor but the tokenizer, and what processor_config.json says."""

    model: Any
    parts: list[Any]
    settings: Mapping[str, Any] = MappingProxyType({})


def tokenizer_of(answers: Sequence[str]) -> Any:
    """A tokenizer of bytes, with marks, and a token for each answer."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = {
        "image_token": IMAGE, "video_token": VIDEO, "audio_token": AUDIO, "vision_bos_token": "<|v1|>",
        "vision_eos_token": "<|v2|>", "audio_bos_token": "<|a1|>", "audio_eos_token": "<|a2|>",
    }  # fmt: skip
    tokenizer: Any = Qwen2Tokenizer(
        vocab={letter: number for number, letter in enumerate(letters)}, merges=[], eos_token=END, pad_token=PAD,
        unk_token=None, extra_special_tokens=names,
    )  # fmt: skip
    tokenizer.add_special_tokens({"extra_special_tokens": MARKS}, replace_extra_special_tokens=False)
    tokenizer.add_tokens([AddedToken(answer, normalized=False, special=False) for answer in answers])
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def _text(tokenizer: Any, **more: Any) -> dict[str, Any]:
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 320}
    sizes |= {"hidden_size": WIDTH, "intermediate_size": WIDTH, "max_position_embeddings": POSITIONS}
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    return sizes | ends | {"tie_word_embeddings": False} | more


def _qwen_eyes(**more: Any) -> dict[str, Any]:
    sizes = {"depth": 1, "hidden_size": WIDTH, "intermediate_size": WIDTH, "num_heads": 2, "out_hidden_size": WIDTH}
    return sizes | more


def _number(tokenizer: Any, token: str) -> int:
    return int(tokenizer.convert_tokens_to_ids(token))


def _qwen_places(tokenizer: Any) -> dict[str, int]:
    ids = {"image_token_id": IMAGE, "video_token_id": VIDEO, "vision_start_token_id": "<|v1|>"}
    return {name: _number(tokenizer, token) for name, token in (ids | {"vision_end_token_id": "<|v2|>"}).items()}


ROPE = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [4, 2, 2]}
_SMALL = {"shortest_edge": 28 * 28, "longest_edge": 56 * 56}


def qwen2_5_vl(tokenizer: Any) -> Made:
    config = Qwen2_5_VLConfig(
        text_config=_text(tokenizer, rope_parameters=ROPE), vision_config=_qwen_eyes(fullatt_block_indexes=[0]),
        **_qwen_places(tokenizer),
    )  # fmt: skip
    return Made(Qwen2_5_VLForConditionalGeneration(config), [Qwen2VLImageProcessorPil(size=_SMALL)])


def qwen3_vl(tokenizer: Any) -> Made:
    eyes = _qwen_eyes(deepstack_visual_indexes=[0], num_position_embeddings=16)
    config = Qwen3VLConfig(
        text_config=_text(tokenizer, rope_parameters=ROPE, head_dim=16), vision_config=eyes, **_qwen_places(tokenizer)
    )
    return Made(Qwen3VLForConditionalGeneration(config), [Qwen2VLImageProcessorPil(size=_SMALL, patch_size=16)])


def _vit(side: int) -> dict[str, Any]:
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": WIDTH, "intermediate_size": WIDTH}
    return sizes | {"image_size": side, "patch_size": 8}


def llava_onevision(tokenizer: Any) -> Made:
    eyes = _vit(16) | {"model_type": "siglip_vision_model", "vision_use_head": False}
    pins = [[16, 16], [16, 32]]
    config = LlavaOnevisionConfig(
        text_config=_text(tokenizer, model_type="qwen2"), vision_config=eyes, image_grid_pinpoints=pins,
        image_token_index=_number(tokenizer, IMAGE), video_token_index=_number(tokenizer, VIDEO),
    )  # fmt: skip
    size = {"height": 16, "width": 16}
    pictures = LlavaOnevisionImageProcessorPil(size=size, image_grid_pinpoints=pins)
    settings = {"num_image_tokens": 4, "vision_feature_select_strategy": "full"}
    return Made(LlavaOnevisionForConditionalGeneration(config), [pictures], settings)


def idefics3(tokenizer: Any) -> Made:
    """SmolVLM's first."""
    config = Idefics3Config(
        text_config=_text(tokenizer, model_type="llama"), vision_config=_vit(32), scale_factor=2,
        image_token_id=_number(tokenizer, IMAGE),
    )  # fmt: skip
    edge = {"longest_edge": 32}
    pictures = Idefics3ImageProcessorPil(size=edge, max_image_size=edge, do_image_splitting=False)
    return Made(Idefics3ForConditionalGeneration(config), [pictures], {"image_seq_len": 4})


def _whisper() -> Any:
    return WhisperFeatureExtractor(feature_size=16, chunk_length=4)


def _ears(**more: Any) -> dict[str, Any]:
    sizes = {"encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": WIDTH, "d_model": WIDTH}
    return sizes | {"num_mel_bins": 16, "max_source_positions": 200} | more


def qwen2_audio(tokenizer: Any) -> Made:
    """It hears, and has no eyes."""
    config = Qwen2AudioConfig(
        text_config=_text(tokenizer, model_type="qwen2"), audio_config=_ears(),
        audio_token_index=_number(tokenizer, AUDIO),
    )  # fmt: skip
    return Made(Qwen2AudioForConditionalGeneration(config), [_whisper()])


def qwen2_5_omni(tokenizer: Any) -> Made:
    """It sees and hears; it could speak, too."""
    thinker = {
        "text_config": _text(tokenizer, rope_parameters=ROPE), "audio_config": _ears(output_dim=WIDTH),
        "vision_config": _qwen_eyes(fullatt_block_indexes=[0]), "audio_token_index": _number(tokenizer, AUDIO),
        "image_token_index": _number(tokenizer, IMAGE), "video_token_index": _number(tokenizer, VIDEO),
        "vision_start_token_id": _number(tokenizer, "<|v1|>"), "audio_start_token_id": _number(tokenizer, "<|a1|>"),
    }  # fmt: skip
    config = Qwen2_5OmniConfig(thinker_config=thinker, enable_audio_output=False)
    return Made(Qwen2_5OmniForConditionalGeneration(config), [Qwen2VLImageProcessorPil(size=_SMALL), _whisper()])


def save_captioner(folder: Path, kind: Callable[[Any], Made], answers: Sequence[str] = (), seed: int = 0) -> Path:
    """Save a model of this `kind` that gives the first of the `answers` in its first turn, and so on; without any its
    weights are random. `answers` holds two, or one for both turns."""
    torch.manual_seed(seed)
    tokenizer = tokenizer_of(answers)
    made = kind(tokenizer)
    if answers:
        _teach(getattr(made.model, "thinker", made.model), tokenizer, [*answers, answers[-1]][:2])
    made.model.save_pretrained(folder)
    saved: dict[str, Any] = {}
    for part in (tokenizer, *made.parts):
        part.save_pretrained(folder)
        file = folder / "preprocessor_config.json"  # pictures and sound share it in public folders
        saved |= json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(saved))
    if made.settings:
        (folder / "processor_config.json").write_text(json.dumps(dict(made.settings)))
    return folder


@torch.no_grad()
def _teach(model: Any, tokenizer: Any, answers: Sequence[str]) -> None:
    for name, value in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight", "o_proj.bias", "down_proj.bias")):
            value.zero_()
    into, out = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    out.zero_()
    for turn, answer in enumerate(answers):
        token = _number(tokenizer, answer)
        into[_number(tokenizer, f"<|turn{turn + 1}|>")] = into[token] = 0
        into[_number(tokenizer, f"<|turn{turn + 1}|>"), 2 * turn] = 1
        into[token, 2 * turn + 1] = 1
        out[token, 2 * turn] = 1
        out[tokenizer.eos_token_id, 2 * turn + 1] = 1
