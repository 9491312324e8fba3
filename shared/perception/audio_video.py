"""Sounds and videos in one space: the audiovisual Perception Encoder (PE-AV), from a folder of transformers'."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers import PeAudioFeatureExtractor, PeAudioVideoModel

from shared.perception.installed import optional_module
from shared.perception.weights import reading
from shared.utils.errors import UserError
from shared.utils.files import read_json
from shared.utils.fingerprint import weights_fingerprint

WANTED = "a folder of transformers with config.json, safetensors and the processor's files is needed"
PROCESSORS = ("video_preprocessor_config.json", "processor_config.json", "preprocessor_config.json")
"""Files that say what is done to a frame, the first that is there."""
TIMM = "timm_wrapper"
"""What transformers calls a network for pictures that the package timm defines."""


class AudioVideo:
    """`transformers.PeAudioVideoModel`: embeds sounds, and videos of any number of frames, each alone."""

    def __init__(
        self, model: Any, extractor: Any, processor: dict[str, Any], device: str = "cpu", batch: int = 16
    ) -> None:
        self.model, self.extractor, self.device, self.batch = model.to(device).eval(), extractor, device, batch
        self.rate = int(extractor.sampling_rate)
        self.size = (int(processor["size"]["height"]), int(processor["size"]["width"]))
        self.mean, self.std = tuple(processor["image_mean"]), tuple(processor["image_std"])

    @classmethod
    def load(cls, folder: Path, device: str = "cpu", batch: int = 16) -> AudioVideo:
        """Load the model in a folder; safetensors only. UserError: none there, not whole, or timm is missing."""
        config = read_json(folder / "config.json", advice="give a folder of transformers")
        if config.get("model_type") != "pe_audio_video":
            raise UserError(f"{folder}: holds a model of type {config.get('model_type')!r}; pe_audio_video is needed")
        vision = config.get("audio_video_config", {}).get("video_config", {}).get("vision_config", {})
        if vision.get("model_type", TIMM) == TIMM:
            optional_module("timm", "timm", "PE-AV")
        with reading(folder, PeAudioVideoModel, "PE-AV", WANTED):
            model = PeAudioVideoModel.from_pretrained(folder, use_safetensors=True, local_files_only=True)
            extractor = PeAudioFeatureExtractor.from_pretrained(folder, local_files_only=True)
        return cls(model, extractor, cls._processor(folder), device, batch)

    @staticmethod
    def _processor(folder: Path) -> dict[str, Any]:
        for name in PROCESSORS:
            if (folder / name).is_file():
                found = read_json(folder / name)
                found = found.get("video_processor", found)
                if {"size", "image_mean", "image_std"} <= found.keys() and {"height", "width"} <= found["size"].keys():
                    return dict(found)
        raise UserError(f"{folder}: {PROCESSORS[0]} says no size, image_mean and image_std; {WANTED}")

    def preprocessing(self) -> dict[str, Any]:
        """Tell what is done to frames and sound."""
        scaled = "both sides, bilinear with anti-aliasing"
        return {"rate": self.rate, "size": list(self.size), "scaling": scaled, "mean": self.mean, "std": self.std}

    def fingerprint(self) -> str:
        """Hash of the weights."""
        return weights_fingerprint(self.model)

    @torch.inference_mode()
    def sounds(self, sounds: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Embed sounds [N] of one length at `rate`: a row of length 1 for each, [K, D]."""
        rows = []
        for start in range(0, len(sounds), self.batch):
            part = list(sounds[start : start + self.batch])
            given = self.extractor(part, sampling_rate=self.rate, return_tensors="pt")[
                "input_values"
            ]  # attribute: numpy
            rows.append(self.model.get_audio_embeds(given.to(self.device)))
        return functional.normalize(torch.cat(rows).float(), dim=-1).cpu().numpy()

    @torch.inference_mode()
    def videos(self, videos: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed videos uint8 [K, T, H, W, 3]: a row of length 1 for each, [K, D]."""
        rows, network = [], self.model.video_model
        for start in range(0, len(videos), self.batch):
            values = torch.from_numpy(videos[start : start + self.batch]).to(self.device).permute(0, 1, 4, 2, 3)
            flat = functional.interpolate(values.flatten(0, 1).float(), self.size, mode="bilinear", antialias=True)
            middle, spread = (torch.tensor(part, device=self.device).view(3, 1, 1) for part in (self.mean, self.std))
            pictures = ((flat / 255 - middle) / spread).unflatten(0, values.shape[:2])
            rows.append(network.video_head(network.video_encoder(pixel_values_videos=pictures).pooler_output))
        return functional.normalize(torch.cat(rows).float(), dim=-1).cpu().numpy()

    def pictures(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed pictures uint8 [T, H, W, 3], each as a video of its own: [T, D] of length 1."""
        return self.videos(frames[:, None])
