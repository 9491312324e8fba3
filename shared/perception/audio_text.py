"""Sounds and texts in one space: CLAP, from a folder of transformers'."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers import AutoTokenizer, ClapFeatureExtractor, ClapModel

from shared.perception.weights import reading
from shared.utils.fingerprint import weights_fingerprint

WANTED = "a folder of transformers with config.json, safetensors, a tokenizer and preprocessor_config.json is needed"


class AudioText:
    """`transformers.ClapModel`. Sound is cut into windows of the model's length (10 s), evenly spread over it all,
    where the library cuts off at random what is longer; a shorter sound is repeated, as in training."""

    def __init__(self, model: Any, extractor: Any, tokenizer: Any, device: str = "cpu", batch: int = 16) -> None:
        self.model, self.extractor, self.tokenizer = model.to(device).eval(), extractor, tokenizer
        self.device, self.batch, self.rate = device, batch, int(extractor.sampling_rate)
        self.window = int(extractor.nb_max_samples)
        self.dimension: int = model.config.projection_dim
        self._of_clips: WeakKeyDictionary[Any, NDArray[np.float32]] = WeakKeyDictionary()

    @classmethod
    def load(cls, folder: Path, device: str = "cpu", batch: int = 16) -> AudioText:
        """Load the model in a folder; safetensors only. UserError: none there, or not whole."""
        with reading(folder, ClapModel, "CLAP", WANTED):
            model = ClapModel.from_pretrained(folder, use_safetensors=True, local_files_only=True)
            extractor = ClapFeatureExtractor.from_pretrained(folder, local_files_only=True)
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        return cls(model, extractor, tokenizer, device, batch)

    def preprocessing(self) -> dict[str, Any]:
        """Tell what is done to the sound before the network."""
        windows = "evenly spread, as many as cover the clip; a shorter clip is repeated"
        return {"rate": self.rate, "window": self.window / self.rate, "windows": windows}

    def fingerprint(self) -> str:
        """Hash of the weights."""
        return weights_fingerprint(self.model)

    def windows(self, sound: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Cut sound [N] into as few windows as cover it, the first at its start and the last at its end."""
        count = max(1, math.ceil(len(sound) / self.window))
        starts = np.linspace(0, max(0, len(sound) - self.window), count).astype(int)
        return [sound[start : start + self.window] for start in starts]

    @torch.inference_mode()
    def sound(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embed sound [N] at `rate`: a row of length 1 for each window, [K, D]."""
        windows, rows = self.windows(sound), []
        for start in range(0, len(windows), self.batch):
            part = windows[start : start + self.batch]
            given = self.extractor(part, sampling_rate=self.rate, return_tensors="pt").to(self.device)
            # the library calls one window of a fused batch longer than it is, at random; none is
            longer = torch.zeros(len(part), 1, dtype=torch.bool, device=self.device)
            pooled = self.model.audio_model(input_features=given.input_features, is_longer=longer).pooler_output
            rows.append(functional.normalize(self.model.audio_projection(pooled), dim=-1).float().cpu())
        return torch.cat(rows).numpy()

    def of_clip(self, media: Any) -> NDArray[np.float32]:
        """Embed a clip's sound; once, however many metrics ask."""
        if media not in self._of_clips:
            self._of_clips[media] = self.sound(media.audio(self.rate))
        return self._of_clips[media]

    @torch.inference_mode()
    def text(self, text: str) -> NDArray[np.float32]:
        """Embed a text -> [D] of length 1."""
        given = self.tokenizer([text], truncation=True, return_tensors="pt").to(self.device)
        pooled = self.model.text_model(input_ids=given.input_ids, attention_mask=given.attention_mask).pooler_output
        return functional.normalize(self.model.text_projection(pooled), dim=-1)[0].float().cpu().numpy()
