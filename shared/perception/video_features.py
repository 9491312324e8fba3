"""Features of short videos for Fréchet distances: I3D's logits, and VideoMAE and V-JEPA 2 of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import VideoMAEModel, VJEPA2Model

from shared.perception.i3d import CLASSES, I3D
from shared.perception.weights import load_weights, reading
from shared.utils.errors import UserError
from shared.utils.files import read_json
from shared.utils.fingerprint import weights_fingerprint

#: Of ImageNet, where a folder has no preprocessor_config.json.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class VideoFeatures(Protocol):
    """A network that makes a row of features from a short video."""

    dimension: int

    def frames(self, asked: int) -> int:
        """Frames of a video that it takes, if `asked` is possible. UserError if it is not."""
        ...

    def preprocessing(self) -> dict[str, Any]: ...

    def fingerprint(self) -> str: ...

    def __call__(self, videos: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features of videos uint8 [K, T, H, W, 3] -> [K, D]."""
        ...


def prepared(
    videos: NDArray[np.uint8], size: int, mean: Sequence[float], std: Sequence[float], antialias: bool, device: Any
) -> Tensor:
    """Scale until the shorter side is `size`, bilinear, cut centrally, and normalise: [K, T, H, W, 3] uint8 ->
    [K, T, 3, size, size]."""
    values = torch.from_numpy(videos).to(device).permute(0, 1, 4, 2, 3).float().div(255)
    count, height, width = len(values), *values.shape[-2:]
    shape = [max(size, round(side * size / min(height, width))) for side in (height, width)]
    flat = functional.interpolate(
        values.flatten(0, 1), shape, mode="bilinear", align_corners=False, antialias=antialias
    )
    top, left = ((side - size) // 2 for side in shape)
    cut = flat[..., top : top + size, left : left + size]
    middle, spread = (torch.tensor(part, device=device).view(3, 1, 1) for part in (mean, std))
    return ((cut - middle) / spread).unflatten(0, (count, -1))


class I3DFeatures:
    """Logits of I3D, as published FVDs take them: 224 pixels, bilinear without anti-aliasing, [-1, 1]."""

    dimension, size = CLASSES, 224

    def __init__(self, model: nn.Module, device: str = "cpu", batch: int = 16) -> None:
        self.model, self.device, self.batch = model.to(device).eval(), device, batch

    @classmethod
    def load(cls, path: Path, device: str = "cpu", batch: int = 16) -> I3DFeatures:
        """Load the weights in a safetensors file. UserError as `load_weights`."""
        return cls(load_weights(I3D(), path), device, batch)

    def frames(self, asked: int) -> int:
        """Any number from 9 on: pooled over two at the end."""
        if asked < 9:
            raise UserError(f"frames = {asked}: I3D takes 9 or more")
        return asked

    def preprocessing(self) -> dict[str, Any]:
        """Tell what is done to a frame, and which features they are."""
        scaled = f"shorter side {self.size}, bilinear without anti-aliasing, centre crop"
        return {"features": "I3D logits, mean over time", "size": [self.size] * 2, "scaling": scaled, "range": [-1, 1]}

    def fingerprint(self) -> str:
        """Hash of the weights."""
        return weights_fingerprint(self.model)

    @torch.inference_mode()
    def __call__(self, videos: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features of videos uint8 [K, T, H, W, 3] -> [K, 400]."""
        rows = []
        for start in range(0, len(videos), self.batch):
            part = videos[start : start + self.batch]
            values = prepared(part, self.size, (0.5,) * 3, (0.5,) * 3, False, self.device)
            rows.append(self.model(values.transpose(1, 2)).float().cpu())
        return torch.cat(rows).numpy()


class EncoderFeatures:
    """Mean over all tokens of the last layer of VideoMAE or V-JEPA 2."""

    kinds = {"videomae": VideoMAEModel, "vjepa2": VJEPA2Model}  # noqa: RUF012  never written to

    def __init__(
        self, model: Any, mean: Sequence[float] = MEAN, std: Sequence[float] = STD, device: str = "cpu", batch: int = 16
    ) -> None:
        self.model, self.device, self.batch = model.to(device).eval(), device, batch
        self.mean, self.std, config = tuple(mean), tuple(std), model.config
        self.dimension: int = config.hidden_size
        self.size: int = config.crop_size if config.model_type == "vjepa2" else config.image_size

    @classmethod
    def load(cls, folder: Path, device: str = "cpu", batch: int = 16) -> EncoderFeatures:
        """Load a folder of transformers; safetensors only. UserError: another model in it, or not whole."""
        found = read_json(folder / "config.json", advice="give a folder of transformers").get("model_type")
        if found not in cls.kinds:
            raise UserError(f"{folder}: holds a model of type {found!r}; {' or '.join(cls.kinds)} is needed")
        with reading(folder, cls.kinds[found], found, "a folder of transformers is needed"):
            model = cls.kinds[found].from_pretrained(folder, use_safetensors=True, local_files_only=True)
        file = folder / "preprocessor_config.json"
        said = read_json(file) if file.is_file() else {}
        return cls(model, said.get("image_mean", MEAN), said.get("image_std", STD), device, batch)

    def frames(self, asked: int) -> int:
        """VideoMAE's own number alone, V-JEPA 2 any even one."""
        config = self.model.config
        if config.model_type == "videomae" and asked != config.num_frames:
            raise UserError(f"frames = {asked}: this VideoMAE takes {config.num_frames}")
        if asked % config.tubelet_size:
            raise UserError(f"frames = {asked}: a multiple of {config.tubelet_size} is needed")
        return asked

    def preprocessing(self) -> dict[str, Any]:
        """Tell what is done to a frame, and which features they are."""
        scaled = f"shorter side {self.size}, bilinear with anti-aliasing, centre crop"
        what = f"{self.model.config.model_type}, mean of the last layer's tokens"
        return {"features": what, "size": [self.size] * 2, "scaling": scaled, "mean": self.mean, "std": self.std}

    def fingerprint(self) -> str:
        """Hash of the weights."""
        return weights_fingerprint(self.model)

    @torch.inference_mode()
    def __call__(self, videos: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features of videos uint8 [K, T, H, W, 3] -> [K, D]."""
        rows, is_jepa = [], self.model.config.model_type == "vjepa2"
        for start in range(0, len(videos), self.batch):
            part = videos[start : start + self.batch]
            values = prepared(part, self.size, self.mean, self.std, True, self.device)
            found = self.model(values, skip_predictor=True) if is_jepa else self.model(values)
            rows.append(found.last_hidden_state.mean(1).float().cpu())
        return torch.cat(rows).numpy()
