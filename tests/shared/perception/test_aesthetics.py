"""Audiobox-aesthetics: the published layout, and scores as computed by hand from the published names."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from feature_models import TARGETS, aesthetics_shapes, save_aesthetics
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from transformers import WavLMConfig

from shared.perception.aesthetics import (
    AXES,
    RATE,
    WINDOW,
    Aesthetics,
    AestheticsNetwork,
    Layout,
    published,
    read_layout,
)
from shared.utils.errors import UserError

HEADS, GROUPS, BUCKETS = 2, 2, 8


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE)).astype(np.float32)


def norm(values: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return functional.layer_norm(values, values.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])


def linear(values: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return values @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def bucket(distance: int) -> int:
    """Of WavLM (arXiv 2110.13900, section 3.1): half for each side, of these half exact and half by the logarithm."""
    half = BUCKETS // 2
    exact = half // 2
    side = half if distance > 0 else 0
    distance = abs(distance)
    if distance < exact:
        return side + distance
    return side + min(half - 1, exact + int(math.log(distance / exact) / math.log(800 / exact) * (half - exact)))


def attention(state: Tensor, bias: Tensor, padding: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    """Gated relative position bias over `state` [T, D]; `padding` [T] is not looked at."""
    size = state.shape[1] // HEADS
    heads = []
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        queries, keys, values = (linear(state, weights, f"{name}.{one}_proj")[:, part] for one in "qkv")
        gates = linear(state[:, part], weights, f"{name}.grep_linear").view(-1, 2, 4).sum(2).sigmoid()
        gate = gates[:, :1] * (gates[:, 1:] * weights[f"{name}.grep_a"][0, head] - 1) + 2
        likeness = queries @ keys.T / size**0.5 + gate * bias[head]
        heads.append(likeness.masked_fill(padding, -math.inf).softmax(1) @ values)
    return linear(torch.cat(heads, 1), weights, f"{name}.out_proj")


def states_by_hand(sound: Tensor, weights: dict[str, Tensor], samples: int) -> tuple[Tensor, Tensor]:
    """States of all layers [L, T, D] of a filled window, and which frames are filling [T]."""
    weights = {name.removeprefix("wavlm_model."): value for name, value in weights.items()}
    values = sound[None, None]
    for number, stride in enumerate((5, 2, 2, 2, 2, 2, 2)):
        layer = f"feature_extractor.conv_layers.{number}"
        values = functional.conv1d(values, weights[f"{layer}.0.weight"], stride=stride)
        if not number:
            mean, spread = values.mean(2, keepdim=True), values.var(2, correction=0, keepdim=True)
            scale, shift = (weights[f"{layer}.2.{part}"][:, None] for part in ("weight", "bias"))
            values = (values - mean) / (spread + 1e-5).sqrt() * scale + shift
        values = functional.gelu(values)
    frames = values.shape[2]
    each = len(sound) // frames
    padding = (torch.arange(each * frames) >= samples).view(frames, each).all(1)
    state = linear(norm(values[0].T, weights, "layer_norm"), weights, "post_extract_proj")
    state = state * ~padding[:, None]
    direction, length = (weights[f"encoder.pos_conv.0.weight_{letter}"] for letter in "vg")
    kernel = length * direction / direction.square().sum((0, 1), keepdim=True).sqrt()
    place = functional.conv1d(
        state.T[None], kernel, weights["encoder.pos_conv.0.bias"], padding=kernel.shape[2] // 2, groups=GROUPS
    )
    state = norm(state + functional.gelu(place[0, :, :frames].T), weights, "encoder.layer_norm")
    places = torch.tensor([bucket(distance) for distance in range(-frames + 1, frames)])
    table = weights["encoder.layers.0.self_attn.relative_attention_bias.weight"][places]
    steps = torch.arange(frames)
    bias = table[steps - steps[:, None] + frames - 1].permute(2, 0, 1)
    states = [state]
    for number in range(2):
        layer = f"encoder.layers.{number}"
        state = state + attention(state, bias, padding, weights, f"{layer}.self_attn")
        state = norm(state, weights, f"{layer}.self_attn_layer_norm")
        state = state + linear(functional.gelu(linear(state, weights, f"{layer}.fc1")), weights, f"{layer}.fc2")
        state = norm(state, weights, f"{layer}.final_layer_norm")
        states.append(state)
    return torch.stack(states), padding


def score_by_hand(states: Tensor, padding: Tensor, weights: dict[str, Tensor], axis: str) -> float:
    shares = weights[f"layer_weights.{axis}"].exp() / weights[f"layer_weights.{axis}"].exp().sum()
    mean = (states * shares[:, None, None]).sum(0)[~padding].mean(0)
    values = mean / mean.norm()
    for number in (0, 3):
        values = linear(values, weights, f"proj_layer.{axis}.{number}")
        values = functional.gelu(norm(values, weights, f"proj_layer.{axis}.{number + 1}"))
    mean_score, deviation = TARGETS[axis]
    return float(linear(values, weights, f"proj_layer.{axis}.6")) * deviation + mean_score


def test_scores_are_those_by_hand(tmp_path: Path) -> None:
    rater = Aesthetics.load(save_aesthetics(tmp_path / "audiobox"))
    weights = load_file(tmp_path / "audiobox/model.safetensors")
    parts = [noise(10), noise(0.27, 1)]
    wanted = dict.fromkeys(AXES.values(), 0.0)
    for part in parts:
        filled = functional.pad(torch.from_numpy(part), (0, WINDOW - len(part)))
        states, padding = states_by_hand(filled, weights, len(part))
        for axis, word in AXES.items():
            wanted[word] += score_by_hand(states, padding, weights, axis) * len(part) / (10.27 * RATE)
    found = rater.scores(np.concatenate(parts))
    assert found == pytest.approx(wanted, abs=1e-5)
    assert len({round(value, 3) for value in found.values()}) == 4 and len(rater.fingerprint()) == 64
    assert rater.preprocessing()["targets"]["PQ"] == [6.57505, 1.51466]


def test_windows_count_by_their_length_and_batches_change_nothing(tmp_path: Path) -> None:
    rater = Aesthetics.load(save_aesthetics(tmp_path / "audiobox"), batch=1)
    first, second, rest = noise(10), noise(10, 1), noise(0.01, 2)
    each = [rater.scores(part)["quality"] for part in (first, second, rest)]
    both = rater.scores(np.concatenate([first, second, rest]))["quality"]
    assert both == pytest.approx(np.average(each, weights=[10, 10, 0.01]), abs=1e-5)
    rater.batch = 2
    assert rater.scores(np.concatenate([first, second]))["quality"] == pytest.approx(np.mean(each[:2]), abs=1e-5)
    with pytest.raises(ValueError, match="no samples; sound is needed"):
        rater.scores(np.zeros(0, np.float32))


def test_the_layout_is_the_published_one() -> None:
    with torch.device("meta"):
        network = AestheticsNetwork(Layout(12, 5, True, True, TARGETS), WavLMConfig()).eval()
        frames = network.states(torch.zeros(1, WINDOW), WINDOW)
    state = {published(name): list(value.shape) for name, value in network.state_dict().items()}
    assert state == aesthetics_shapes(12, 768, 12, 3072, 512, 320, 128, 16, 5)
    assert len(state) == 324 and sum(math.prod(shape) for shape in state.values()) == 103_859_112
    assert frames.shape == (13, 1, 499, 768)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"wavlm_model.mask_emb": None}, r"1 weights are missing, as wavlm_model\.mask_emb; the published"),
        (
            {"proj_layer.BALANCED.0.bias": torch.zeros(1)},
            r"1 weights do not belong .* as proj_layer\.BALANCED\.0\.bias",
        ),
        ({"layer_weights.PQ": torch.zeros(4)}, r"layer_weights\.PQ is \[4\]; \[3\] is needed"),
        ({"wavlm_model.encoder.pos_conv.0.weight_v": None}, r"pos_conv\.0\.weight_v is missing; the published names"),
        ({"wavlm_model.encoder.layers.0.fc1.weight": torch.zeros(4)}, r"fc1\.weight is \[4\]; the published names"),
        ({"wavlm_model.encoder.layers.0.self_attn.relative_attention_bias.weight": torch.zeros(8, 3)}, "no WavLM"),
    ],
)
def test_other_weights_are_refused_by_name(change: dict[str, Tensor | None], reason: str, tmp_path: Path) -> None:
    folder = save_aesthetics(tmp_path / "audiobox")
    weights = load_file(folder / "model.safetensors") | change
    save_file({name: value for name, value in weights.items() if value is not None}, folder / "model.safetensors")
    with pytest.raises(UserError, match=reason):
        Aesthetics.load(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"proj_act_fn": "relu"}, "proj_act_fn is 'relu'; Audiobox-aesthetics has 'gelu'"),
        ({"nth_layer": 0}, "nth_layer is 0; a whole number from 1 to 65"),
        ({"target_transform": {"CE": {"mean": 5, "std": 1}}}, "mean and std of CE, CU, PC, PQ are needed"),
        ({"target_transform": {axis: {"mean": 5, "std": 0} for axis in AXES}}, r"target_transform\.CE\.std is 0"),
    ],
)
def test_another_config_is_refused(change: dict[str, object], reason: str, tmp_path: Path) -> None:
    file = save_aesthetics(tmp_path / "audiobox") / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(UserError, match=reason):
        Aesthetics.load(file.parent)


def test_what_a_config_does_not_say_is_as_in_the_public_class(tmp_path: Path) -> None:
    targets = {axis: {"mean": mean, "std": std} for axis, (mean, std) in TARGETS.items()}
    (tmp_path / "config.json").write_text(json.dumps({"target_transform": targets}))
    assert read_layout(tmp_path) == Layout(12, 1, False, True, TARGETS)
    with pytest.raises(UserError, match=r"config\.json cannot be read"):
        read_layout(tmp_path / "nowhere")
