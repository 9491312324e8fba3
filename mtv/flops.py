"""What the control network computes, counted from shapes."""

from __future__ import annotations

from typing import Any

from torch import nn

from mtv.control import TRACKS, MSTControlNet


def forward_flops(control: MSTControlNet, frames: int, space: int, speakers: int = 1) -> int:
    """Operations of one forward pass for one clip: two for each multiplication of a matrix product, no others.

    Args:
        frames, space: F video latent frames of S tokens.
        speakers: rows of the speech track.
    """
    config = control.config
    shown = 1 + (frames - 1) * config.temporal_stride
    rows = {name: speakers if name == "speech" else 1 for name in TRACKS}
    encoders = sum(
        rows[name] * (shown * _weights(encoder.stack) + frames * config.tokens * _weights(encoder.pool))
        for name, encoder in _members(control.track_encoders)
    )
    by_interval = [name for name in TRACKS if control.holistic_stream is None or name != "music"]
    tokens = {name: rows[name] * config.tokens for name in by_interval}
    injected = 0
    for injection in control.interval_injection:
        for name, attention in _members(injection.attentions):
            read = tokens.get(name, sum(tokens.values()))
            own = _weights(attention.to_q) + _weights(attention.to_out)
            pairs = 2 * space * read * attention.to_q.out_features
            injected += frames * (space * own + read * (_weights(attention.to_k) + _weights(attention.to_v)) + pairs)
    holistic = 0
    if control.holistic_stream is not None and control.holistic_injection is not None:
        holistic = frames * _weights(control.holistic_stream) + sum(map(_weights, control.holistic_injection))
    return 2 * (encoders + _interaction(control, frames, tokens) + injected + holistic)


def _interaction(control: MSTControlNet, frames: int, tokens: dict[str, int]) -> int:
    """Multiplications of the interval stream, the noise level given per latent frame."""
    if control.interval_stream is None:
        return 0
    total, count = frames * _weights(control.interval_stream.time_embedder), sum(tokens.values())
    for block in control.interval_stream.blocks:
        attention = block.attention
        total += frames * (count * _weights(attention) + 2 * count * count * attention.to_out.out_features)
        for name, each in tokens.items():
            total += frames * (_weights(block.modulation[name]) + each * _weights(block.ffn[name]))
    return total


def _weights(module: nn.Module) -> int:
    """Multiplications of its layers for one token."""
    return sum(layer.weight.numel() for layer in module.modules() if isinstance(layer, nn.Linear | nn.Conv1d))


def _members(modules: nn.ModuleDict) -> list[tuple[str, Any]]:
    return list(modules.items())
