"""Answers about pictures and sound by a vision-language model of transformers, from a folder, in this process."""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoConfig, AutoFeatureExtractor, AutoImageProcessor, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_MULTIMODAL_LM_MAPPING
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
from transformers.video_processing_utils import BaseVideoProcessor

from shared.perception.weights import reading
from shared.utils.errors import UserError
from shared.utils.hub import first_line
from shared.utils.progress import quiet_loading

Message = Mapping[str, Any]

NAME = "model that answers"
WANTED = "a folder of transformers with config.json, safetensors, a processor and its chat template is needed"
LOCAL = {"local_files_only": True, "trust_remote_code": False}
"""Of the library, which would else ask on the terminal whether to run code that lies in the folder."""
EYES, EARS = "image_processor", "feature_extractor"


class ChatProcessor:
    """Turns a conversation into what the model of a folder takes: its tokenizer, its processors of pictures and of
    sound, and its chat template. Pictures are prepared by Pillow, whether torchvision is installed or not."""

    def __init__(self, kind: Any, processor: Any, positions: int | None) -> None:
        """Take a class of models, its processor, and how many tokens the model has positions for."""
        self.kind, self.processor, self.positions = kind, processor, positions
        self.sees, self.hears = hasattr(processor, EYES), hasattr(processor, EARS)

    @classmethod
    def load(cls, folder: Path) -> ChatProcessor:
        """Read all of a folder but its weights, which are checked against config.json; no code that lies in it is run.
        UserError: no such model, or one that transformers does not know, and no processor or template."""
        try:
            config = AutoConfig.from_pretrained(folder, **LOCAL)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{folder}: no {NAME} ({first_line(error)}); {WANTED}") from None
        inner = getattr(config, "thinker_config", config)  # of one that speaks, too: the part that writes
        if type(inner) not in MODEL_FOR_MULTIMODAL_LM_MAPPING or type(config) not in PROCESSOR_MAPPING:
            told = f"{config.model_type} is none that transformers answers with about pictures or sound"
            raise UserError(f"{folder}: {told}; {WANTED}")
        kind = MODEL_FOR_MULTIMODAL_LM_MAPPING[type(inner)]
        with reading(folder, kind, NAME, WANTED):
            processor = _processor(folder, PROCESSOR_MAPPING[type(config)])
        if not processor.chat_template:
            raise UserError(f"{folder}: no chat template (chat_template.jinja); {WANTED}")
        return cls(kind, processor, getattr(inner.get_text_config(), "max_position_embeddings", None))

    @property
    def rate(self) -> int:
        """Samples a second of the sound that it takes."""
        return int(getattr(self.processor, EARS).sampling_rate)

    def inputs(self, messages: Sequence[Message], most_tokens: int) -> Any:
        """Prepare a conversation in OpenAI's protocol, pictures and sound as data in its messages, for an answer of at
        most so many tokens. UserError where the model has no positions for both, or cannot hear as much."""
        prepared = self.processor.apply_chat_template(
            self._talk(messages), add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        count = prepared["input_ids"].shape[1]
        if self.positions is not None and count + most_tokens > self.positions:
            told = f"a question of {count} tokens and an answer of {most_tokens}; the model has {self.positions}"
            raise UserError(f"{told}: fewer or smaller pictures are needed (captions.pictures, captions.side)")
        return prepared

    def check_parts(self, messages: Sequence[Message]) -> None:
        """Raise UserError if the template leaves out pictures or sound that a conversation has."""
        whole = self._talk(messages)
        bare = [one | {"content": [part for part in one["content"] if part["type"] == "text"]} for one in whole]
        if len({self.processor.apply_chat_template(talk, tokenize=False) for talk in (whole, bare)}) == 1:
            raise UserError(f"its chat template leaves out pictures and sound; {WANTED}")

    def _talk(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """Read the parts of messages; a plain text becomes one, as some templates know parts alone."""
        contents = (one["content"] for one in messages)
        lists = ([{"type": "text", "text": one}] if isinstance(one, str) else one for one in contents)
        read = ([self._part(part) for part in parts] for parts in lists)
        return [{"role": one["role"], "content": parts} for one, parts in zip(messages, read, strict=True)]

    def _part(self, part: Message) -> dict[str, Any]:
        if part["type"] == "image_url":
            data = base64.b64decode(part["image_url"]["url"].partition(",")[2])
            return {"type": "image", "image": Image.open(io.BytesIO(data), formats=["JPEG"]).convert("RGB")}
        if part["type"] == "input_audio":
            return {"type": "audio", "audio": self._sound(base64.b64decode(part["input_audio"]["data"]))}
        return dict(part)

    def _sound(self, data: bytes) -> NDArray[np.float32]:
        """Read a mono wav of 16 bits [N]. UserError for more than the model hears: the library would cut it off."""
        with wave.open(io.BytesIO(data)) as reader:
            rate, samples = reader.getframerate(), np.frombuffer(reader.readframes(reader.getnframes()), "<i2")
        if rate != self.rate:
            raise UserError(f"the model hears {self.rate} samples a second; one that hears {rate} is needed")
        longest = getattr(getattr(self.processor, EARS), "n_samples", None)
        if longest is not None and len(samples) > longest:
            told = f"{len(samples) / rate:g} s of sound; the model hears {longest / rate:g} s"
            raise UserError(f"{told}: a smaller shots.most_seconds is needed")
        return samples.astype(np.float32) / np.float32(32767)


class Captioner:
    """A model with its processor. The answer is the likeliest word after word, so the same question has the same."""

    def __init__(self, model: Any, chat: ChatProcessor) -> None:
        self.model, self.chat = model, chat

    @classmethod
    def load(cls, folder: Path, device: str = "cpu", dtype: str = "bfloat16") -> Captioner:
        """Load the model in a folder; safetensors only. UserError as `ChatProcessor.load`."""
        chat = ChatProcessor.load(folder)
        with quiet_loading():
            model = chat.kind.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, dtype=getattr(torch, dtype)
            )
        model.generation_config.update(do_sample=False, num_beams=1, temperature=None, top_p=None, top_k=None)
        return cls(model.to(device).eval(), chat)

    @torch.inference_mode()
    def answer(self, messages: Sequence[Message], most_tokens: int) -> str:
        """Answer a conversation in OpenAI's protocol. UserError as `ChatProcessor.inputs`."""
        prepared = self.chat.inputs(messages, most_tokens).to(self.model.device, self.model.dtype)
        tokens = self.model.generate(**prepared, max_new_tokens=most_tokens)
        new = tokens[0, prepared["input_ids"].shape[1] :]
        text: str = self.chat.processor.tokenizer.decode(new, skip_special_tokens=True)
        return text


def _processor(folder: Path, kind: Any) -> Any:
    """Put a processor together as transformers does (5.23), but for its part for videos, which needs torchvision and is
    never used: a bare one stands there. ValueError for a processor with parts of another kind."""
    readers = {
        "tokenizer": lambda: AutoTokenizer.from_pretrained(folder, **LOCAL),
        EYES: lambda: AutoImageProcessor.from_pretrained(folder, **LOCAL, backend="pil"),
        EARS: lambda: AutoFeatureExtractor.from_pretrained(folder, **LOCAL),
        "video_processor": BaseVideoProcessor,
    }
    names = kind.get_attributes()
    if odd := [name for name in names if name not in readers]:
        raise ValueError(f"{kind.__name__} has a part {odd[0]}, which is not known here")

    class WithoutVideos(kind):  # type: ignore[misc]
        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            if argument_name == "video_processor":
                return BaseVideoProcessor
            return super().check_argument_for_proper_class(argument_name, argument)

    settings, _ = kind.get_processor_dict(folder, local_files_only=True)
    try:
        processor = WithoutVideos.from_args_and_dict([readers[name]() for name in names], settings)
    except ImportError as error:
        raise ValueError(first_line(error)) from None
    processor.chat_template = processor.chat_template or processor.tokenizer.chat_template
    return processor
