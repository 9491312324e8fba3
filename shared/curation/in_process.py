"""A captioning model that answers in the process itself, from the user's folder or the hub, in place of a server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shared.curation.chat import Message, picture_part, sound_part, text_part
from shared.curation.config import Captions, DemixConfig
from shared.curation.record import Loads
from shared.utils.errors import UserError
from shared.utils.hub import SUFFIXES, local_folder
from shared.utils.parallel import process_pool

if TYPE_CHECKING:
    from shared.perception.captioner import Captioner

LONGEST = 600.0
"""Seconds of sound that are tried at most before anything is begun."""


def ask_here(messages: Sequence[Message], settings: Captions) -> str:
    """Text that the model answers; it is loaded at the first question of a process."""
    return _captioner(settings.model, settings.device, settings.dtype).answer(messages, settings.most_tokens)


def check(config: DemixConfig, rate: int) -> None:
    """Raise UserError unless each model is there, or on the hub, from where it is copied, can be loaded, and sees or
    hears (at `rate`) all that it will be asked about."""
    with process_pool(1) as pool:  # where a parent has looked at CUDA, processes that it forks cannot use it
        pool.submit(_check, config.captions, config.shots.most_seconds, rate).result()


def loads(config: DemixConfig) -> Loads | None:
    """Say what a process loads to caption; nothing where a server or files tell."""
    settings = config.captions
    if settings.source != "transformers":
        return None
    folders = [_folder(model) for model in _models(settings)]
    files = [file for folder in folders for file in sorted(folder.iterdir()) if file.suffix in SUFFIXES]
    return Loads(tuple(files), settings.processes)


def _check(settings: Captions, seconds: float, rate: int) -> None:
    _check_device(settings.device)
    picture = picture_part(np.zeros((settings.side, settings.side, 3), np.uint8))
    sound = sound_part(np.zeros(round(min(seconds, LONGEST) * rate), np.float32), rate)
    parts = [picture] * settings.pictures + [sound] * settings.hears
    _check_model(settings, "captions.model", parts)
    if settings.sound_model:
        _check_model(settings.of_sound(), "captions.sound_model", [sound])


def _models(settings: Captions) -> Iterator[str]:
    yield settings.model
    if settings.sound_model:
        yield settings.sound_model


def _check_model(settings: Captions, key: str, parts: list[Message]) -> None:
    from shared.perception.captioner import ChatProcessor

    messages = [{"role": "user", "content": [text_part("?"), *parts]}]
    try:
        chat = ChatProcessor.load(_folder(settings.model))
        kinds = {part["type"] for part in parts}
        for has, kind, what in ((chat.sees, "image_url", "see"), (chat.hears, "input_audio", "hear")):
            if kind in kinds and not has:
                raise UserError(f"{settings.model}: a {chat.kind.__name__} cannot {what}; one that can is needed")
        chat.check_parts(messages)
        chat.inputs(messages, settings.most_tokens)
    except UserError as error:
        raise UserError(f"{key}: {error}") from None


def _check_device(name: str) -> None:
    """Raise UserError unless there is such a device."""
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if (device.index or 0) >= {"cpu": 1, "cuda": torch.cuda.device_count()}.get(device.type, 0):
        raise UserError(f"captions.device: {name}: there is no such device here; use cpu, cuda or cuda:NUMBER")


@cache
def _captioner(model: str, device: str, dtype: str) -> Captioner:
    from shared.perception.captioner import Captioner

    return Captioner.load(_folder(model), device, dtype)


@cache
def _folder(model: str) -> Path:
    """Find the folder once: processes that are forked go on with the same, though the hub had a newer one."""
    return local_folder(model, [""])
