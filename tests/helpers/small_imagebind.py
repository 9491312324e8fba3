"""ImageBind of random weights, tiny, and its file as the public one is, with parts that nothing reads."""

from __future__ import annotations

from pathlib import Path

import torch
from feature_models import clip_tokens
from torch import nn

from shared.perception.imagebind import ImageBind, Sizes, Tower
from shared.utils.rng import generator

TOWER = Tower(16, 2, 2)
SMALL = Sizes(TOWER, TOWER, TOWER, 8, 28, 14, 26, 36, len(clip_tokens()), 24)


def randomised(module: nn.Module) -> nn.Module:
    for name, value in module.named_parameters():
        if value.ndim:  # scales stay as they are
            value.data.copy_(0.3 * torch.randn(value.shape, generator=generator(0, "test", name)))
    return module.eval().requires_grad_(False)


def save_pickle(path: Path, **change: torch.Tensor | None) -> Path:
    """A .pth with the text's mask and weights of modalities that are left; `change` takes names with "/" for "."."""
    more = {"modality_heads.depth.2.weight": torch.zeros(2), "modality_trunks.imu.blocks.0.norm_1.bias": torch.zeros(3)}
    mask = nn.Transformer.generate_square_subsequent_mask(SMALL.tokens)
    state = randomised(ImageBind(SMALL)).state_dict() | more | {"modality_preprocessors.text.mask": mask}
    state |= {name.replace("/", "."): value for name, value in change.items()}
    torch.save({name: value for name, value in state.items() if value is not None}, path)
    return path
