"""Where cross-modal attention looks (CCL paper, Figure 3): shares of its mass, and maps of it over the frames.

While `recording(model)` lasts, every direction of a fusion also writes down its attention weights, computed again from
the queries and keys that it is given; what it returns is what it always returns.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial, singledispatch
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from ccl.analysis.loss_probes import FixedLevel
from ccl.baselines import AppendedTextAttention, DenseContextAttention, FullTextAttention
from ccl.context_attention import AudioContextAttention, ContextAttention, KeyValue, VideoContextAttention
from ccl.tarp import Alignment
from ccl.training.objective import Batch
from shared.codecs import VideoCodec, tensor_to_frames
from shared.evaluation.leakage import Truth, overlaps, sounding_region, sounding_spans
from shared.nn.clock import LatentClock
from shared.nn.rope import Rotary, rotate
from shared.nn.timed_text import TextRoute, one_text
from shared.utils.config import Flow
from shared.utils.files import replacing

STREAMS = ("video", "audio")
SHARES = ("lct", "text", "other", "last", "right_time", "sounding")
"""Attention mass on: context tokens; text tokens (of a fusion that has them in its softmax); the other stream, and of
this part: the last token that the query may see; tokens whose latent shares time with the query's; tokens where
something sounds. The first three sum to 1."""

KINDS = ("background", "foreground")
"""Of queries: tokens that surely do not sound, and tokens where something does."""

LEAST_COVER = 0.2
"""Share of a video token's pixels that lie in a sounding region, from which on the token counts as foreground."""

COLUMNS = 8
"""Latent frames shown in a picture."""


@dataclass(frozen=True)
class AttentionWeights:
    """Attention of one direction in one block, mean over heads. A query's weights sum to 1 over the three parts."""

    context: Tensor  # [B, N, L]
    text: Tensor  # [B, N, T]
    other: Tensor  # [B, N, M]
    visible: Tensor  # [N, M], True where a query may see a token of the other stream


@contextmanager
def recording(model: Any) -> Iterator[dict[str, list[AttentionWeights]]]:
    """Record the cross-modal attention of the forward passes of a `DualStreamTransformer` while this lasts. The weights
    of each block in order, by the stream that reads."""

    @torch.no_grad()
    def write(kept: list[AttentionWeights], direction: nn.Module, given: tuple[Any], named: dict[str, Any]) -> None:
        if "key_value" in named:  # not where it reads its context tokens alone
            kept.append(weights_of(direction, *given, **named))

    recorded: dict[str, list[AttentionWeights]] = {stream: [] for stream in STREAMS}
    hooks = [
        getattr(block.fusion, stream).register_forward_pre_hook(partial(write, kept), with_kwargs=True)
        for block in model.blocks
        for stream, kept in recorded.items()
    ]
    try:
        yield recorded
    finally:
        for hook in hooks:
            hook.remove()


@singledispatch
def weights_of(direction: nn.Module, *args: Any, **kwargs: Any) -> AttentionWeights:
    """Weights in a direction of a fusion (`ccl.fusion.Fusion`), called with these arguments; TypeError if unknown here.
    Of a gate too: what it multiplies is no part of the weights."""
    raise TypeError(f"attention of a {type(direction).__name__} cannot be recorded: `weights_of` does not know it")


@weights_of.register(VideoContextAttention)
def video_weights(
    cca: ContextAttention, x: Tensor, key_value: KeyValue, alignment: Alignment, rotary: Rotary
) -> AttentionWeights:
    """Weights of the video; each frame's window laid out over all A audio tokens."""
    frames, tokens = len(alignment.window), key_value[0].shape[1]
    q = cca.queries(x).unflatten(1, (frames, -1))
    k = rotate(key_value[0][:, alignment.window], rotary)
    logits = torch.einsum("bfshd,bfwhd->bhfsw", q, k).flatten(2, 3)
    context, window = _softmax(_context_logits(cca, q.flatten(1, 2)), logits, q.shape[-1])
    space = q.shape[2]
    places = alignment.window.repeat_interleave(space, 0).expand_as(window)
    other = window.new_zeros(*window.shape[:2], tokens).scatter_(-1, places, window)
    visible = alignment.video_reads(tokens).repeat_interleave(space, 0)
    return AttentionWeights(context, context[..., :0], other, visible.to(x.device))


@weights_of.register(AudioContextAttention)
def audio_weights(
    cca: ContextAttention, x: Tensor, key_value: KeyValue, alignment: Alignment, rotary: Rotary
) -> AttentionWeights:
    """Weights of the audio; each token's frame laid out over all F·S video tokens."""
    frames = len(alignment.groups)
    q, k = cca.queries(x), key_value[0].unflatten(1, (frames, -1))
    logits = torch.einsum("bahd,bashd->bhas", rotate(q, rotary), k[:, alignment.frame])
    context, frame = _softmax(_context_logits(cca, q), logits, q.shape[-1])
    space = k.shape[2]
    places = (alignment.frame[:, None] * space + torch.arange(space, device=x.device)).expand_as(frame)
    other = frame.new_zeros(*frame.shape[:2], frames * space).scatter_(-1, places, frame)
    visible = alignment.audio_reads().repeat_interleave(space, 1)
    return AttentionWeights(context, context[..., :0], other, visible.to(x.device))


@weights_of.register(DenseContextAttention)
def dense_weights(
    cca: DenseContextAttention, x: Tensor, key_value: KeyValue, query_rotary: Rotary, key_rotary: Rotary
) -> AttentionWeights:
    """Weights of CCA without a partition."""
    q = cca.queries(x)
    logits = _logits(rotate(q, query_rotary), rotate(key_value[0], key_rotary))
    context, other = _softmax(_context_logits(cca, q), logits, q.shape[-1])
    return AttentionWeights(context, context[..., :0], other, torch.ones_like(other[0], dtype=torch.bool))


@weights_of.register(FullTextAttention)
def full_weights(
    _: FullTextAttention, q: Tensor, text_k: Tensor, text_v: Tensor, key_value: KeyValue, query_rotary: Rotary,
    key_rotary: Rotary, route: TextRoute = one_text,
) -> AttentionWeights:  # fmt: skip
    """Weights of Ovi's second attention, which is to the other stream alone: its text is read apart."""
    logits = _logits(rotate(q, query_rotary), rotate(key_value[0], key_rotary))
    none, other = _softmax(logits[..., :0], logits, q.shape[-1])
    return AttentionWeights(none, none, other, torch.ones_like(other[0], dtype=torch.bool))


@weights_of.register(AppendedTextAttention)
def appended_weights(
    _: AppendedTextAttention, q: Tensor, text_k: Tensor, text_v: Tensor, key_value: KeyValue,
    route: TextRoute = one_text,
) -> AttentionWeights:  # fmt: skip
    """Weights of UniVerse-1's one softmax over the text, of texts over time each query's own, and the other stream."""
    read = route(lambda q, k, _: _logits(q, k).transpose(1, 2), q, text_k, text_v)
    text, other = _softmax(read.transpose(1, 2), _logits(q, key_value[0]), q.shape[-1])
    return AttentionWeights(text[..., :0], text, other, torch.ones_like(other[0], dtype=torch.bool))


def _logits(q: Tensor, k: Tensor) -> Tensor:
    """[B, h, N, M] of q [B, N, h, d] and k [B, M, h, d], not scaled."""
    return torch.einsum("bnhd,bmhd->bhnm", q, k)


def _context_logits(cca: ContextAttention, q: Tensor) -> Tensor:
    """[B, h, N, L]: context tokens meet the queries before these are turned."""
    return _logits(q, cca._key_value(cca.context_tokens)[0].expand(len(q), -1, -1, -1))


def _softmax(first: Tensor, second: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    """Logits [B, h, N, K] and [B, h, N, M] -> weights [B, N, K] and [B, N, M]: one softmax, mean over heads."""
    weights = (torch.cat([first, second], -1).float() / head_dim**0.5).softmax(-1).mean(1)
    one, other = weights.split([first.shape[-1], second.shape[-1]], -1)
    return one, other


#: Of "video" [B, F·S] and "audio" [B, A], bool: which tokens are of each of the `KINDS`; one partly inside is of none.
Sounding = dict[str, tuple[Tensor, Tensor]]


def sounding_tokens(batch: Batch, clips: Sequence[tuple[Truth, float]], size: tuple[int, int], space: int) -> Sounding:
    """By the puppets' truth of every clip of a batch, each cut at so many seconds of its file. `size`: (H, W) of the
    picture in pixels. `space`: video tokens per frame, S."""
    height, width = size
    columns = round((space * width / height) ** 0.5)
    rows = space // columns
    covered, audible = [], []
    for truth, start in clips:
        region = sounding_region([truth], size).reshape(rows, height // rows, columns, width // columns)
        covered.append(torch.from_numpy(region.mean((1, 3))).flatten().repeat(len(batch.video_clock)))
        spans = sounding_spans(truth, start)
        audible.append(torch.from_numpy(overlaps(spans, batch.audio_clock.starts, batch.audio_clock.ends)))
    share, sounds = (torch.stack(one).to(batch.video.device) for one in (covered, audible))
    return {"video": (share == 0, share >= LEAST_COVER), "audio": (~sounds, sounds)}


#: One clip at one noise level, mean over heads and blocks, [F, h, w] each: of every video token as a query its share on
#: lct, last and right_time, and what it has "received" of the audio of its time.
AttentionMaps = dict[str, Tensor]


def same_time(video: LatentClock, audio: LatentClock) -> Tensor:
    """[F, A]: whether a video latent and an audio token share any time."""
    first, last = torch.tensor([video.starts, video.ends], dtype=torch.float64)[:, :, None]
    begin, end = torch.tensor([audio.starts, audio.ends], dtype=torch.float64)
    return (torch.minimum(last, end) - torch.maximum(first, begin)) > 1e-9


def shares(weights: AttentionWeights, right: Tensor, sounding: Tensor) -> Tensor:
    """[B, N, 6]: the `SHARES` of each query; `right` [N, M] are the tokens of its own time, `sounding` [B, M]."""
    tokens = weights.visible.shape[1]
    last = tokens - 1 - weights.visible.flip(1).int().argmax(1)
    at_last = weights.other.gather(-1, last[None, :, None].expand(len(weights.other), -1, 1))[..., 0]
    return torch.stack([
        weights.context.sum(-1), weights.text.sum(-1), weights.other.sum(-1), at_last,
        (weights.other * right).sum(-1), (weights.other * sounding[:, None]).sum(-1),
    ], -1)  # fmt: skip


def even(weights: AttentionWeights) -> AttentionWeights:
    """Weights of a query that prefers nothing: the same for all that it may see."""
    context, text = torch.ones_like(weights.context), torch.ones_like(weights.text)
    other = weights.visible.expand_as(weights.other).type_as(context)
    total = (context.shape[-1] + text.shape[-1] + other.sum(-1))[..., None]
    return AttentionWeights(context / total, text / total, other / total, weights.visible)


class AttentionProbe:
    """Attention of one model in t2av, over batches: shares per direction, kind of query, block and noise level."""

    def __init__(self, model: Any, flow: Flow, levels: Sequence[float], seed: int) -> None:
        self.model, self.flow, self.levels, self.seed = model, flow, levels, seed
        size = (len(STREAMS), len(levels), len(model.blocks), len(KINDS), 2, len(SHARES))  # 2: measured, even
        self.sums = torch.zeros(size, dtype=torch.float64)
        self.counts = torch.zeros(size[:4], dtype=torch.float64)

    @torch.no_grad()
    def add(self, batch: Batch, sounding: Sounding) -> list[AttentionMaps]:
        """Measure a batch of t2av samples; returns the maps of its clips at the middle one of the noise levels."""
        maps: list[AttentionMaps] = []
        right = same_time(batch.video_clock, batch.audio_clock).to(batch.video.device)
        right = right.repeat_interleave(math.prod(self.grid(batch)), 0)
        for level, u in enumerate(self.levels):
            with recording(self.model) as recorded:
                FixedLevel(self.model, self.flow, self.seed, u)(replace(batch, step=level))
            for index, (stream, own, other) in enumerate((("video", right, "audio"), ("audio", right.T, "video"))):
                for block, weights in enumerate(recorded[stream]):
                    measured = [shares(w, own, sounding[other][1]) for w in (weights, even(weights))]
                    for kind, chosen in enumerate(sounding[stream]):
                        self.counts[index, level, block, kind] += int(chosen.sum())
                        for which, values in enumerate(measured):
                            self.sums[index, level, block, kind, which] += values[chosen].double().sum(0).cpu()
            if level == len(self.levels) // 2:
                maps = _maps(recorded, right, len(batch.video_clock), self.grid(batch))
        return maps

    def grid(self, batch: Batch) -> tuple[int, int]:
        """Height and width of one latent frame in video tokens; their product is S."""
        patch = self.model.video_stream.config.patch_size
        return batch.video.shape[3] // patch[1], batch.video.shape[4] // patch[2]

    def summary(self) -> dict[str, Any]:
        """Per stream and kind of query the shares over all levels and blocks, those of an even spread, and the shares
        per block (in order) and per noise level u. None where no query of the kind was there."""
        summary = {}
        for stream, sums, counts in zip(STREAMS, self.sums, self.counts, strict=True):
            whole = _by_kind(sums.sum((0, 1)), counts.sum((0, 1)))
            for kind, values in _by_kind(sums.sum((0, 1)), counts.sum((0, 1)), which=1).items():
                whole[kind]["even"] = values
            blocks = [_by_kind(sums[:, b].sum(0), counts[:, b].sum(0)) for b in range(sums.shape[1])]
            levels = [{"u": u, **_by_kind(sums[k].sum(0), counts[k].sum(0))} for k, u in enumerate(self.levels)]
            summary[stream] = {**whole, "blocks": blocks, "levels": levels}
        return summary


def _by_kind(sums: Tensor, counts: Tensor, which: int = 0) -> dict[str, Any]:
    """Divide sums [2, 2, 6] by counts [2]: {"background": {share: value}, "foreground": ...}."""
    summary = {}
    for kind, name in enumerate(KINDS):
        values = (sums[kind, which] / counts[kind]).tolist() if counts[kind] else [None] * len(SHARES)
        summary[name] = dict(zip(SHARES, values, strict=True))
    return summary


def _maps(
    recorded: Mapping[str, Sequence[AttentionWeights]], right: Tensor, frames: int, grid: tuple[int, int]
) -> list[AttentionMaps]:
    """Draw up the maps of every clip of a batch from one forward pass; `right` is [F·S, A]."""
    nothing = torch.zeros(1, right.shape[1], device=right.device)
    shown = torch.stack([shares(weights, right, nothing) for weights in recorded["video"]]).mean(0)
    other = torch.stack([weights.other for weights in recorded["audio"]]).mean(0)
    received = (other * right.T).sum(1) / right.T.sum(0).clamp(min=1)
    layers = {name: shown[..., SHARES.index(name)] for name in ("lct", "last", "right_time")} | {"received": received}
    return [{name: layer[i].view(frames, *grid) for name, layer in layers.items()} for i in range(len(received))]


@torch.no_grad()
def draw_maps(folder: Path, batch: Batch, row: int, maps: AttentionMaps, codec: VideoCodec, fps: float) -> Path:
    """Write FOLDER/ID.png for clip `row` of a batch: its frames, and below them each map as heat over them. A map is
    scaled from 0 to its own maximum."""
    clock = batch.video_clock
    frames = round(clock.duration * fps)
    pixels = tensor_to_frames(codec.decode(batch.video[row : row + 1], frames))[0].cpu()
    shown = torch.linspace(0, len(clock) - 1, min(COLUMNS, len(clock))).round().long()
    times = clock.centres[shown]
    pictures = pixels[(times * fps).long().clamp(max=frames - 1)]
    figure = Figure(figsize=(1.3 * len(times) + 1.2, 1.4 * (len(maps) + 1)))
    figure.subplots_adjust(left=0.09, right=0.99, top=0.95, bottom=0.01, wspace=0.04, hspace=0.04)
    axes = figure.subplots(len(maps) + 1, len(times), squeeze=False)
    height, width = pictures.shape[1:3]
    over = {"cmap": "magma", "vmin": 0, "alpha": 0.65, "extent": (-0.5, width - 0.5, height - 0.5, -0.5)}
    for column, time in enumerate(times.tolist()):
        axes[0, column].imshow(pictures[column].numpy())
        axes[0, column].set_title(f"{time:.2f} s", fontsize=7)
    for line, (name, values) in enumerate(maps.items(), start=1):
        layer = values.cpu()[shown]
        highest = max(float(layer.max()), 1e-9)
        for column in range(len(times)):
            axes[line, column].imshow(pictures[column].float().mean(-1).numpy(), cmap="gray")
            axes[line, column].imshow(layer[column].numpy(), vmax=highest, **over)
        axes[line, 0].set_ylabel(f"{name.replace('_', ' ')}\n0 .. {highest:.2g}", fontsize=7)
    for one in axes.flat:
        one.set(xticks=[], yticks=[])
    path = folder / f"{batch.ids[row].replace(os.sep, '_')}.png"
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=110)
    return path
