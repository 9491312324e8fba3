"""What a joint model costs: parameters and operations of the part that joins the streams, and of the whole.

Counted from shapes, so that models of any size and any variant (`ccl.baselines`) are compared without running them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ccl.transformer import DualStreamTransformer
from shared.dit import StreamConfig


@dataclass(frozen=True)
class Tokens:
    """Sizes of one clip: F video latent frames of S tokens, A audio tokens, and the tokens of each stream's text."""

    frames: int
    space: int
    audio: int
    text: int

    @property
    def video(self) -> int:
        return self.frames * self.space


@dataclass(frozen=True)
class Costs:
    """Parameters, and operations of one forward pass: two for each multiplication of a matrix product, no others.

    `cross_` is the part that joins the streams: CCA with its context tokens, or what stands in its place.
    """

    cross_parameters: int
    parameters: int
    cross_flops: int
    flops: int


def costs(config: Mapping[str, Any], tokens: Tokens) -> Costs:
    """Of a `DualStreamTransformer` with `config` (its arguments, or the config.json of a checkpoint's transformer/).

    The pass is that of task t2av for one clip, with a noise level per video frame and an even clock: the audio tokens
    that read one frame are never more than ⌈A/F⌉.
    """
    arguments = {name: value for name, value in config.items() if not name.startswith("_")}
    with torch.device("meta"):
        model = DualStreamTransformer(**arguments)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    cross = sum(size for name, size in sizes.items() if name.startswith(("video_cca.", "audio_cca.")))
    joined = _joined(model, tokens)
    alone = _stream(model.video_stream.config, tokens.video, tokens.frames, tokens.text)
    alone += _stream(model.audio_stream.config, tokens.audio, 1, tokens.text)
    return Costs(cross, sum(sizes.values()), joined, joined + alone)


def _linear(tokens: int, inputs: int, outputs: int) -> int:
    return 2 * tokens * inputs * outputs


def _attention(pairs: int, width: int) -> int:
    """Logits and weighted sum over `pairs` of queries and keys; all heads together are `width` wide."""
    return 4 * pairs * width


def _stream(config: StreamConfig, tokens: int, levels: int, text: int) -> int:
    """A stream alone: embeddings, blocks, output. `levels`: noise levels of a clip."""
    width, values = config.width, config.patch_values
    embed = _linear(tokens, values, width) + _linear(text, config.text_dim, width) + _linear(text, width, width)
    time = _linear(levels, config.freq_dim, width) + _linear(levels, width, width) + _linear(levels, width, 6 * width)
    own = 4 * _linear(tokens, width, width) + _attention(tokens * tokens, width)
    read = 2 * (_linear(tokens, width, width) + _linear(text, width, width)) + _attention(tokens * text, width)
    block = own + read + 2 * _linear(tokens, width, config.ffn_dim)
    head = _linear(tokens, width, values) + (_linear(levels, width, config.in_channels) if config.skip else 0)
    return embed + time + config.num_layers * block + head


def _joined(model: DualStreamTransformer, tokens: Tokens) -> int:
    """What joins the streams, in both directions and all blocks."""
    config, variant = model.config, model.variant
    video, audio = model.video_stream.config, model.audio_stream.config
    layers, learned = video.num_layers, config.context_tokens if variant.joiner == "cca" else 0
    (n, m), (width, other) = (tokens.video, tokens.audio), (video.width, audio.width)
    if variant.in_text_place:  # queries and output are the text attention's
        video_reads = 2 * _linear(m, other, width) + _attention(n * m, width)
        audio_reads = 2 * _linear(n, width, other) + _attention(m * n, other)
        return layers * (video_reads + audio_reads)
    heard, seen = n * (learned + m), m * (learned + n)
    if not variant.sees_all:
        window = min(m, 3 * max(1, m // tokens.frames))
        padded = tokens.frames * -(-m // tokens.frames)  # the largest group's size holds for all frames
        heard, seen = n * (learned + window), padded * (learned + tokens.space)
    inner = config.cca_heads * config.cca_head_dim
    own = 2 * (_linear(n, width, inner) + _linear(m, other, inner))
    read = 2 * (_linear(m + learned, other, inner) + _linear(n + learned, width, inner))
    return layers * (own + read + _attention(heard + seen, inner))
