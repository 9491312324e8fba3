"""How a sound pleases and how well it is made, four scores from 1 to 10: Audiobox-aesthetics (arXiv 2502.05139).

Names and shapes of its weights are those of the public folder facebook/audiobox-aesthetics (CC-BY-4.0): 324 tensors,
`wavlm_model.mask_emb`, ..., `proj_layer.PQ.12.bias`, 103,859,112 parameters, and a config.json. WavLM (arXiv
2110.13900) hears the sound; each score has its own weights over the layers' states, a mean over time, and an MLP.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import WavLMConfig, WavLMModel

from shared.perception.weights import load_weights, weights_file
from shared.utils.errors import UserError
from shared.utils.fingerprint import weights_fingerprint
from shared.utils.hub import first_line
from shared.utils.ranges import check_range
from shared.utils.weights_folder import Header, read_config, read_header

RATE = 16000
WINDOW = 10 * RATE
"""Samples that are rated at a time, one window after the other; the last one is filled up with zeros."""
AXES = {"CE": "enjoyment", "CU": "usefulness", "PC": "complexity", "PQ": "quality"}
"""Scores in the published order: content enjoyment and usefulness, production complexity and quality."""
STRIDES = (5, 2, 2, 2, 2, 2, 2)
MAX_DISTANCE = 800
"""Frames from which on all distances are alike to the encoder."""
FIXED = {"use_weighted_layer_sum": True, "proj_act_fn": "gelu", "output_dim": 1, "proj_dropout": 0}
DEFAULTS: dict[str, Any] = FIXED | {"nth_layer": 13, "proj_num_layer": 1, "proj_ln": False, "normalize_embed": True}
"""Keys of config.json that can be of one value alone, and what holds where it does not say them."""
PUBLISHED = (
    (r"^masked_spec_embed$", "mask_emb"),
    (r"^feature_extractor\.conv_layers\.(\d+)\.conv\.", r"feature_extractor.conv_layers.\1.0."),
    (r"^feature_extractor\.conv_layers\.0\.layer_norm\.", "feature_extractor.conv_layers.0.2."),
    (r"^feature_projection\.layer_norm\.", "layer_norm."),
    (r"^feature_projection\.projection\.", "post_extract_proj."),
    (r"^encoder\.pos_conv_embed\.conv\.parametrizations\.weight\.original0$", "encoder.pos_conv.0.weight_g"),
    (r"^encoder\.pos_conv_embed\.conv\.parametrizations\.weight\.original1$", "encoder.pos_conv.0.weight_v"),
    (r"^encoder\.pos_conv_embed\.conv\.", "encoder.pos_conv.0."),
    (r"^(encoder\.layers\.\d+)\.attention\.rel_attn_embed\.", r"\1.self_attn.relative_attention_bias."),
    (r"^(encoder\.layers\.\d+)\.attention\.gru_rel_pos_linear\.", r"\1.self_attn.grep_linear."),
    (r"^(encoder\.layers\.\d+)\.attention\.gru_rel_pos_const$", r"\1.self_attn.grep_a"),
    (r"^(encoder\.layers\.\d+)\.attention\.", r"\1.self_attn."),
    (r"^(encoder\.layers\.\d+)\.layer_norm\.", r"\1.self_attn_layer_norm."),
    (r"^(encoder\.layers\.\d+)\.feed_forward\.intermediate_dense\.", r"\1.fc1."),
    (r"^(encoder\.layers\.\d+)\.feed_forward\.output_dense\.", r"\1.fc2."),
)
"""What the encoder's weights are called by transformers, and in the public file; others have one name."""


class Layout(NamedTuple):
    """What config.json says: layers of the encoder, layers of each MLP and whether they are normalised, whether the
    mean over time has length 1, and mean and deviation of each score by axis."""

    layers: int
    depth: int
    normalised: bool
    unit: bool
    targets: Mapping[str, tuple[float, float]]


class AestheticsNetwork(nn.Module):
    """Sound [B, WINDOW] whose first `samples` are no filling -> [B, 4], in the order of AXES, at mean 0 and deviation 1
    of the scores it was trained on."""

    def __init__(self, layout: Layout, encoder: WavLMConfig) -> None:
        super().__init__()
        self.unit = layout.unit
        self.wavlm_model: Any = WavLMModel(encoder)
        width = encoder.hidden_size
        self.proj_layer = nn.ModuleDict({axis: _mlp(width, layout.depth, layout.normalised) for axis in AXES})
        weights = {axis: nn.Parameter(torch.zeros(layout.layers + 1)) for axis in AXES}
        self.layer_weights = nn.ParameterDict(weights)

    def forward(self, sound: Tensor, samples: int) -> Tensor:
        states = self.states(sound, samples)
        scores = []
        for axis in AXES:
            mixed = torch.einsum("lbtd,l->btd", states, self.layer_weights[axis].softmax(0))
            pooled = mixed.mean(1)
            scores.append(self.proj_layer[axis](functional.normalize(pooled, dim=-1) if self.unit else pooled)[:, 0])
        return torch.stack(scores, 1)

    def states(self, sound: Tensor, samples: int) -> Tensor:
        """States before the first layer and after each, [layers + 1, B, T, D], of the frames that begin within the
        first `samples`. Filling is heard by the first group norm alone; later frames are left out, which is what a mask
        over them comes to."""
        model = self.wavlm_model
        features = model.feature_extractor(sound).transpose(1, 2)
        frames = min(features.shape[1], -(-samples // (sound.shape[1] // features.shape[1])))
        state, _ = model.feature_projection(features[:, :frames])
        state = model.encoder.layer_norm(state + model.encoder.pos_conv_embed(state))
        states, bias = [state], None
        for layer in model.encoder.layers:
            state, bias = layer(state, position_bias=bias)
            states.append(state)
        return torch.stack(states)


class Aesthetics:
    """Rates sounds by the network in a folder that the user has."""

    def __init__(self, model: AestheticsNetwork, layout: Layout, device: str = "cpu", batch: int = 16) -> None:
        self.model, self.layout, self.device, self.batch = model.to(device).eval(), layout, device, batch

    @classmethod
    def load(cls, folder: Path, device: str = "cpu", batch: int = 16) -> Aesthetics:
        """Load a folder of config.json and one safetensors file. UserError: none there, another network's, or names or
        shapes that are not the published ones."""
        layout, file = read_layout(folder), weights_file(folder)
        try:
            model = AestheticsNetwork(layout, _encoder(read_header(file), layout.layers, file))
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{file}: its shapes make no WavLM ({first_line(error)}); copy it again") from None
        return cls(load_weights(model, file, name_of=published), layout, device, batch)

    def preprocessing(self) -> dict[str, Any]:
        """Tell what is done to the sound, and what scores are made of."""
        return {
            "rate": RATE, "window_s": WINDOW / RATE, "hop_s": WINDOW / RATE, "short": "zeros, masked",
            "mean": "weighted by length", "targets": {axis: list(pair) for axis, pair in self.layout.targets.items()},
        }  # fmt: skip

    def fingerprint(self) -> str:
        """Hash of the weights."""
        return weights_fingerprint(self.model)

    @torch.inference_mode()
    def scores(self, sound: NDArray[np.float32]) -> dict[str, float]:
        """Rate mono `sound` [N >= 1] at RATE: the four scores by the words of AXES, means over windows weighted by
        their lengths. ValueError for no samples."""
        if not len(sound):
            raise ValueError("no samples; sound is needed")
        values = torch.from_numpy(np.ascontiguousarray(sound, np.float32)).to(self.device)
        whole, rest = divmod(len(values), WINDOW)
        windows = values[: whole * WINDOW].view(whole, WINDOW)
        rows = [self.model(windows[at : at + self.batch], WINDOW) for at in range(0, whole, self.batch)]
        if rest:
            last = functional.pad(values[whole * WINDOW :], (0, WINDOW - rest))
            rows.append(self.model(last[None], rest))
        weights = [WINDOW] * whole + [rest] * bool(rest)
        rated = np.average(torch.cat(rows).cpu().double().numpy(), axis=0, weights=weights)
        return {
            word: float(value * self.layout.targets[axis][1] + self.layout.targets[axis][0])
            for (axis, word), value in zip(AXES.items(), rated, strict=True)
        }


def published(name: str) -> str:
    """Give the name that a weight of `AestheticsNetwork` has in the public file."""
    part, _, rest = name.partition(".")
    if part == "wavlm_model":
        for pattern, public in PUBLISHED:
            found, count = re.subn(pattern, public, rest)
            if count:
                return f"{part}.{found}"
    return name


def read_layout(folder: Path) -> Layout:
    """Read config.json of a folder; what it does not say is as the public class has it. UserError where it is another
    network's."""
    where = f"{folder / 'config.json'}: "
    config = DEFAULTS | read_config(folder, f"{folder}/")
    for key, value in FIXED.items():
        if config[key] != value:
            raise UserError(f"{where}{key} is {config[key]!r}; Audiobox-aesthetics has {value!r}")
    for key, most in (("nth_layer", 65), ("proj_num_layer", 32)):
        check_range(f"{where}{key}", config[key], 1, most)
    targets = config.get("target_transform")
    if not isinstance(targets, dict) or not all(isinstance(targets.get(axis), dict) for axis in AXES):
        raise UserError(f"{where}target_transform is {targets!r:.80}; mean and std of {', '.join(AXES)} are needed")
    for axis in AXES:
        check_range(f"{where}target_transform.{axis}.mean", targets[axis].get("mean"), -1000, 1000, whole=False)
        check_range(f"{where}target_transform.{axis}.std", targets[axis].get("std"), 1e-6, 1000, whole=False)
    pairs = {axis: (float(targets[axis]["mean"]), float(targets[axis]["std"])) for axis in AXES}
    layers = config["nth_layer"] - 1  # the state before the first layer is counted too
    return Layout(layers, config["proj_num_layer"], bool(config["proj_ln"]), bool(config["normalize_embed"]), pairs)


def _encoder(there: Mapping[str, Header], layers: int, file: Path) -> WavLMConfig:
    """Read the sizes of the encoder from the shapes of its weights: config.json does not say them."""

    def shape(name: str, sides: int) -> Sequence[int]:
        header = there.get(f"wavlm_model.{name}")
        if header is None or len(header.shape) != sides or min(header.shape) < 1:
            told = "is missing" if header is None else f"is {list(header.shape)}"
            raise UserError(f"{file}: wavlm_model.{name} {told}; the published names and shapes are needed")
        return header.shape

    kernels = [shape(f"feature_extractor.conv_layers.{number}.0.weight", 3) for number in range(len(STRIDES))]
    width, inner, reach = shape("encoder.pos_conv.0.weight_v", 3)
    buckets, heads = shape("encoder.layers.0.self_attn.relative_attention_bias.weight", 2)
    return WavLMConfig(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=shape("encoder.layers.0.fc1.weight", 2)[0], conv_dim=[one[0] for one in kernels],
        conv_kernel=[one[2] for one in kernels], conv_stride=list(STRIDES), num_conv_pos_embeddings=reach,
        num_conv_pos_embedding_groups=max(1, width // inner), num_buckets=buckets, max_bucket_distance=MAX_DISTANCE,
    )  # fmt: skip


def _mlp(width: int, depth: int, normalised: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), *([nn.LayerNorm(width)] if normalised else []), nn.GELU()]
    return nn.Sequential(*layers, nn.Linear(width, 1))
