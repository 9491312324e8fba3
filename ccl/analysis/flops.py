"""What a joint model costs: parameters and operations of the part that joins the streams, and of the whole.

Counted from shapes, so that models of any size and any variant (`ccl.baselines`) are compared without running them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ccl.routing import Reads, Task
from ccl.transformer import DualStreamTransformer
from shared.nn.dit import StreamConfig


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
    joined = _video_reads(model, tokens, Reads.OTHER) + _audio_reads(model, tokens, Reads.OTHER)
    return Costs(cross, sum(sizes.values()), joined, task_flops(model, tokens, Task.T2AV))


def task_flops(model: DualStreamTransformer, tokens: Tokens, task: Task) -> int:
    """Operations of one forward pass of `task` for one clip; as in `Costs`, with what the route leaves out left out.

    Raises:
        UserError: a task that the model's routing does not know (`Route.joined`).
    """
    route = task.route.joined if model.variant.routing == "joint" else task.route
    total = 0
    if route.video is not Reads.SKIPPED:
        video = model.video_stream.config
        total += _stream(video, tokens.video, tokens.frames, tokens.text, route.video_noisy)
        total += _video_reads(model, tokens, route.video)
    if route.audio is not Reads.SKIPPED:
        total += _stream(model.audio_stream.config, tokens.audio, 1, tokens.text, route.audio_noisy)
        total += _audio_reads(model, tokens, route.audio)
    return total


def _linear(tokens: int, inputs: int, outputs: int) -> int:
    return 2 * tokens * inputs * outputs


def _attention(pairs: int, width: int) -> int:
    """Logits and weighted sum over `pairs` of queries and keys; all heads together are `width` wide."""
    return 4 * pairs * width


def _stream(config: StreamConfig, tokens: int, levels: int, text: int, noisy: bool) -> int:
    """A stream alone: embeddings, blocks and, where it is noisy, output. `levels`: noise levels of a clip."""
    width, values = config.width, config.patch_values
    embed = _linear(tokens, values, width) + _linear(text, config.text_dim, width) + _linear(text, width, width)
    time = _linear(levels, config.freq_dim, width) + _linear(levels, width, width) + _linear(levels, width, 6 * width)
    own = 4 * _linear(tokens, width, width) + _attention(tokens * tokens, width)
    read = 2 * (_linear(tokens, width, width) + _linear(text, width, width)) + _attention(tokens * text, width)
    block = own + read + 2 * _linear(tokens, width, config.ffn_dim)
    head = _linear(tokens, width, values) + (_linear(levels, width, config.in_channels) if config.skip else 0)
    return embed + time + config.num_layers * block + (head if noisy else 0)


def _video_reads(model: DualStreamTransformer, tokens: Tokens, reads: Reads) -> int:
    """What the video reads beside its text, in all blocks."""
    window = min(tokens.audio, 3 * max(1, tokens.audio // tokens.frames))
    width, other = model.video_stream.config.width, model.audio_stream.config.width
    return _reads(model, reads, tokens.video, tokens.audio, (width, other), (tokens.video, window))


def _audio_reads(model: DualStreamTransformer, tokens: Tokens, reads: Reads) -> int:
    """What the audio reads beside its text, in all blocks."""
    padded = tokens.frames * -(-tokens.audio // tokens.frames)  # the largest group's size holds for all frames
    width, other = model.audio_stream.config.width, model.video_stream.config.width
    return _reads(model, reads, tokens.audio, tokens.video, (width, other), (padded, tokens.space))


def _reads(
    model: DualStreamTransformer, reads: Reads, n: int, m: int, widths: tuple[int, int], gathered: tuple[int, int]
) -> int:
    """`n` tokens of a stream read `m` of the other, of `widths`; or each of the `gathered` queries so many of them."""
    config, variant, (width, other) = model.config, model.variant, widths
    layers, joins = model.video_stream.config.num_layers, reads is Reads.OTHER
    if variant.in_text_place:  # queries and output are the text attention's
        # alone, `appended` reads one zero token
        seen = m if joins else 1 if variant.joiner == "appended" else 0
        return layers * (2 * _linear(seen, other, width) + _attention(n * seen, width))
    learned = config.context_tokens if variant.joiner == "cca" else 0
    if not joins and not learned:
        return 0
    inner = config.cca_heads * config.cca_head_dim
    if not joins:
        m, pairs = 0, n * learned
    elif variant.sees_all:
        pairs = n * (learned + m)
    else:
        pairs = gathered[0] * (learned + gathered[1])
    own, read = 2 * _linear(n, width, inner), 2 * _linear(m + learned, other, inner)
    return layers * (own + read + _attention(pairs, inner))
