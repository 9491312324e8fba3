"""What a joint model costs: parameters and operations of the part that joins the streams, and of the whole.

Torch counts them while a twin of the model runs on the meta device, where nothing is computed: a model of any size and
any variant (`ccl.baselines`) is compared so. Attention counts as its matrix products, whatever kernel training has.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from ccl.parts import GivenPart
from ccl.routing import Task
from ccl.transformer import DualStreamTransformer, StreamInput, embed
from shared.nn.clock import LatentClock
from shared.nn.flops import count_flops
from shared.nn.parameter_names import part_of


class Tokens(NamedTuple):
    """Sizes of one clip: F video latent frames of S tokens, A audio tokens, and the tokens of each stream's text.
    `per_latent`: audio tokens in one whole video latent, by the codecs' rates; None: A/F."""

    frames: int
    space: int
    audio: int
    text: int
    per_latent: float | None = None

    @property
    def video(self) -> int:
        return self.frames * self.space


class Costs(NamedTuple):
    """Parameters, and operations of one forward pass: two for each multiplication of a matrix product, no others.
    `cross_modal_` is the part that joins the streams: CCA with its context tokens, or what stands in its place."""

    parameters: int
    cross_modal_parameters: int
    flops: int
    cross_modal_flops: int


def costs(config: Mapping[str, Any], tokens: Tokens) -> Costs:
    """Of a `DualStreamTransformer` with `config` (its arguments, or the config.json of a checkpoint's transformer/).
    The pass is that of task t2av for one clip; what joins the streams costs what it costs beyond the two run alone."""
    model = on_meta(config)
    streams = list(zip((model.video_stream, model.audio_stream), _one_clip(model, tokens), strict=True))
    whole = task_flops(model, tokens, Task.T2AV)
    alone = count_flops(lambda: [stream.run(embed(stream, given)) for stream, given in streams])
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    cross = sum(size for name, size in sizes.items() if part_of(name) == "fusion")
    return Costs(sum(sizes.values()), cross, whole, whole - alone)


def task_flops(model: DualStreamTransformer, tokens: Tokens, task: Task) -> int:
    """Operations, as in `Costs`, of one forward pass on the route of `task` for one clip, with a noise level per video
    frame, one for the sound, and at most ⌈A/F⌉ audio tokens that read it. UserError for a route that the model has not
    (`Route.joint`)."""
    settings = {name: value for name, value in model.config.items() if not name.startswith("_")}
    few, more = (_flops_at(json.dumps(settings, sort_keys=True), depth, tokens, task) for depth in (1, 2))
    return few + (model.config.video["num_layers"] - 1) * (more - few)  # all blocks are alike


@lru_cache(maxsize=1024)
def _flops_at(settings: str, depth: int, tokens: Tokens, task: Task) -> int:
    """Those of a model of so many blocks. A pass takes a quarter of a second, so each is run once in a process."""
    twin = on_meta(json.loads(settings), depth)
    video, audio = _one_clip(twin, tokens)
    if task is Task.PART:
        track = torch.zeros(1, dtype=torch.int64, device="meta")
        audio = replace(audio, part=GivenPart(audio.latents, track))
    return count_flops(lambda: twin(task.route, video, audio))


def on_meta(config: Mapping[str, Any], depth: int | None = None) -> DualStreamTransformer:
    """Build a `DualStreamTransformer` with `config` on the meta device; `depth`: of so many blocks."""
    arguments = {name: value for name, value in config.items() if not name.startswith("_")}
    if depth is not None:
        arguments |= {stream: {**arguments[stream], "num_layers": depth} for stream in ("video", "audio")}
    with torch.device("meta"):
        return DualStreamTransformer(**arguments)


def meta_inputs(
    model: DualStreamTransformer, latents: tuple[int, int, int], audio_tokens: int, text: int,
    clocks: tuple[LatentClock, LatentClock], batch: int = 1,
) -> tuple[StreamInput, StreamInput]:  # fmt: skip
    """Make inputs for `model` on the meta device, of video `latents` F x H x W, with a noise level per frame."""
    video, audio = model.video_stream.config, model.audio_stream.config

    def given(latents: tuple[int, ...], sigma: tuple[int, ...], dim: int, clock: LatentClock) -> StreamInput:
        parts = [torch.empty(batch, *shape, device="meta") for shape in (latents, sigma, (text, dim))]
        return StreamInput(parts[0], parts[1], parts[2], clock)

    return (
        given((video.in_channels, *latents), latents[:1], video.text_dim, clocks[0]),
        given((audio_tokens, audio.in_channels), (), audio.text_dim, clocks[1]),
    )


def _one_clip(model: DualStreamTransformer, tokens: Tokens) -> tuple[StreamInput, StreamInput]:
    """Its picture is one row of tokens: where they stand changes no cost."""
    _, height, width = model.video_stream.config.patch_size
    audio = LatentClock.at_rate(tokens.audio, 25.0)
    rate = None if tokens.per_latent is None else audio.rate / tokens.per_latent
    clocks = LatentClock.uniform(tokens.frames, audio.duration, rate=rate), audio
    return meta_inputs(model, (tokens.frames, height, width * tokens.space), tokens.audio, tokens.text, clocks)
