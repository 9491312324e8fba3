"""Pictures and texts in one space: CLIP, from a folder of transformers'."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from transformers import AutoTokenizer, CLIPModel

from shared.perception.weights import reading
from shared.utils.files import read_json
from shared.utils.fingerprint import weights_fingerprint

#: CLIP's own, where the folder has no preprocessor_config.json.
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
WANTED = "a folder of transformers with config.json, safetensors and a tokenizer is needed"


class ImageText:
    """`transformers.CLIPModel` with its tokenizer. A picture is scaled, bicubic with anti-aliasing, until its shorter
    side is the model's size, and cut centrally; a text is cut to the tokens that the model has positions for (77)."""

    def __init__(
        self, model: Any, tokenizer: Any, mean: Sequence[float] = MEAN, std: Sequence[float] = STD,
        device: str = "cpu", batch: int = 16,
    ) -> None:  # fmt: skip
        self.model, self.tokenizer, self.batch = model.to(device).eval(), tokenizer, batch
        self.device, self.mean, self.std = torch.device(device), tuple(mean), tuple(std)
        self.size: int = model.config.vision_config.image_size
        self.tokens: int = model.config.text_config.max_position_embeddings
        self._of_clips: WeakKeyDictionary[Any, dict[float, NDArray[np.float32]]] = WeakKeyDictionary()

    @classmethod
    def load(cls, folder: Path, device: str = "cpu", batch: int = 16) -> ImageText:
        """Load the model in a folder; safetensors only. UserError: none there, or not whole."""
        with reading(folder, CLIPModel, "CLIP", WANTED):
            model = CLIPModel.from_pretrained(folder, use_safetensors=True, local_files_only=True)
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        file = folder / "preprocessor_config.json"
        said = read_json(file) if file.is_file() else {}
        return cls(model, tokenizer, said.get("image_mean", MEAN), said.get("image_std", STD), device, batch)

    def preprocessing(self) -> dict[str, Any]:
        """Tell what is done to a picture before the network."""
        scaled = f"shorter side {self.size}, bicubic with anti-aliasing, centre crop"
        return {"size": [self.size, self.size], "scaling": scaled, "mean": list(self.mean), "std": list(self.std)}

    def fingerprint(self) -> str:
        """Hash of the weights."""
        return weights_fingerprint(self.model)

    @torch.inference_mode()
    def images(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed pictures uint8 [T, H, W, 3] -> [T, D] of length 1."""
        found = []
        for start in range(0, len(frames), self.batch):
            values = self._prepared(torch.from_numpy(frames[start : start + self.batch]).to(self.device))
            pooled = self.model.vision_model(pixel_values=values).pooler_output
            found.append(functional.normalize(self.model.visual_projection(pooled), dim=-1).float().cpu())
        return torch.cat(found).numpy()

    def of_clip(self, media: Any, fps: float) -> NDArray[np.float32]:
        """Embed a clip's pictures at `fps`; once, however many metrics ask."""
        found = self._of_clips.setdefault(media, {})
        if fps not in found:
            found[fps] = self.images(media.frames(fps))
        return found[fps]

    @torch.inference_mode()
    def text(self, text: str) -> NDArray[np.float32]:
        """Embed a text -> [D] of length 1."""
        given = self.tokenizer([text], truncation=True, max_length=self.tokens, return_tensors="pt").to(self.device)
        pooled = self.model.text_model(input_ids=given.input_ids, attention_mask=given.attention_mask).pooler_output
        return functional.normalize(self.model.text_projection(pooled), dim=-1)[0].float().cpu().numpy()

    def is_cut(self, text: str) -> bool:
        """Whether a text has more tokens than the model has positions for."""
        return len(self.tokenizer(text, verbose=False).input_ids) > self.tokens

    def _prepared(self, frames: Tensor) -> Tensor:
        values = frames.permute(0, 3, 1, 2).float()
        height, width = values.shape[-2:]
        scale = self.size / min(height, width)
        shape = [max(self.size, round(side * scale)) for side in (height, width)]
        values = functional.interpolate(values, shape, mode="bicubic", antialias=True, align_corners=False)
        top, left = ((side - self.size) // 2 for side in shape)
        values = values[..., top : top + self.size, left : left + self.size].round().clamp(0, 255).div(255)
        mean, std = (torch.tensor(part, device=self.device).view(3, 1, 1) for part in (self.mean, self.std))
        return (values - mean) / std
