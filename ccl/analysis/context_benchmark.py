"""CCA measured: gathered, as the model runs it, against dense, all pairs under a mask. Time and memory.

`python scripts/benchmark.py cca` is its command line.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from ccl.analysis.timing import MIB, peak_bytes, seconds_of
from ccl.context_attention import AudioContextAttention, VideoContextAttention
from ccl.tarp import align
from shared.nn.attention import attend
from shared.nn.clock import LatentClock
from shared.nn.rope import bands, rotate, time_rotary

DIRECTIONS = ("audio to video", "video to audio")


class CcaOptions(NamedTuple):
    """What is measured. `sizes`: frames, tokens of each, audio tokens; the fastest of `repeats` runs counts."""

    sizes: list[tuple[int, int, int]]
    heads: int
    head_dim: int
    context_tokens: int
    backward: bool
    repeats: int
    device: str


class Case:
    """One direction of CCA at one size (F, S, A); video tokens are F·S, the streams are as wide as CCA."""

    def __init__(self, direction: str, size: tuple[int, int, int], options: CcaOptions) -> None:
        frames, self.tokens_per_frame, tokens = size
        self.reads_audio = direction == DIRECTIONS[0]
        width = options.heads * options.head_dim
        how: dict[str, Any] = {"device": options.device, "requires_grad": options.backward}
        torch.manual_seed(0)
        streams = [torch.randn(1, count, width, **how) for count in (frames * self.tokens_per_frame, tokens)]
        self.query, self.other = streams if self.reads_audio else streams[::-1]
        kind = VideoContextAttention if self.reads_audio else AudioContextAttention
        self.cca = kind(width, width, options.heads, options.head_dim, options.context_tokens)
        torch.nn.init.normal_(self.cca.to_out.weight, std=width**-0.5)
        self.cca.to(options.device)
        audio_clock = LatentClock.at_rate(tokens, 31.25)
        video_clock = LatentClock.causal_video(frames, (4 * frames - 3) / audio_clock.duration, 4)
        self.alignment = align(video_clock, audio_clock).to(options.device)
        self.positions = video_clock.position(audio_clock.centres).to(options.device)

    def gathered(self) -> Tensor:
        """As the model runs it."""
        offset = self.alignment.window_offset if self.reads_audio else self.alignment.offset
        rotary = time_rotary(offset, self.cca.head_dim)
        return cast(
            Tensor, self.cca(self.query, self.cca.key_value(self.other), alignment=self.alignment, rotary=rotary)
        )

    def dense(self) -> Tensor:
        """Compute the same function, all pairs under a mask [N, L + M], through the same attention kernels.

        Queries and keys are turned to their own times, so that a logit sees the difference. Context tokens must meet
        unturned queries: the rotated dimensions stand twice, turned for the other stream and as they are for the
        context tokens, and each key is zero in the half that is not its own.
        """
        q, (k, v) = self.cca.queries(self.query), self.cca.key_value(self.other)
        context_k, context_v = (part[None] for part in self.cca._key_value(self.cca.context_tokens))
        time_dim, dim = bands(q.shape[-1])[0], q.shape[-1]
        frames = torch.arange(len(self.alignment.window), dtype=torch.float64, device=self.positions.device)
        times = frames.repeat_interleave(self.tokens_per_frame), self.positions
        own = times if self.reads_audio else times[::-1]
        q_rotary, k_rotary = (time_rotary(positions, dim) for positions in own)
        q = torch.cat([q[..., :time_dim], rotate(q, q_rotary)], dim=-1)
        k = torch.cat([torch.zeros_like(k[..., :time_dim]), rotate(k, k_rotary)], dim=-1)
        still, space = context_k.split([time_dim, dim - time_dim], dim=-1)
        k = torch.cat([torch.cat([still, torch.zeros_like(still), space], dim=-1), k], dim=1)
        q = q * (q.shape[-1] / dim) ** 0.5  # the kernel divides by the root of the longer dimension
        v = torch.nn.functional.pad(torch.cat([context_v, v], dim=1), (0, time_dim))
        if self.reads_audio:
            mask = self.alignment.video_reads(self.other.shape[1]).repeat_interleave(self.tokens_per_frame, dim=0)
        else:
            mask = self.alignment.audio_reads().repeat_interleave(self.tokens_per_frame, dim=1)
        mask = torch.nn.functional.pad(mask, (context_k.shape[1], 0), value=True).to(q.device)
        return self.cca.to_out(attend(q, k, v, mask)[..., :dim].flatten(-2))


def benchmark_cca(options: CcaOptions) -> tuple[dict[str, Any], str]:
    """Measure every size in both directions, and memory as clips get longer: numbers, and two tables."""
    what, heads, head_dim = "forward and backward" if options.backward else "forward", options.heads, options.head_dim
    lines = [
        f"CCA, {what}, batch 1, {heads} heads x {head_dim} (width {heads * head_dim}), "
        f"{options.context_tokens} context tokens, fp32, {options.device}, "
        f"{torch.get_num_threads()} threads; projections included in both\n",
        "   F     S     A  direction        time ms gathered    dense  ratio   memory MiB gathered    dense  ratio",
    ]
    sizes, growth = [], []
    for size in options.sizes:
        for direction in DIRECTIONS:
            gathered, dense = measure(direction, size, options)
            sizes.append({"size": size, "direction": direction, "gathered": gathered, "dense": dense})
            lines.append(
                f"{size[0]:4d} {size[1]:5d} {size[2]:5d}  {direction}"
                f"{gathered[0] * 1e3:19.1f} {dense[0] * 1e3:8.1f} {dense[0] / gathered[0]:6.1f}"
                f"{gathered[1] / MIB:22.1f} {dense[1] / MIB:8.1f} {dense[1] / gathered[1]:6.1f}"
            )
    lines += ["\nmemory per token (KiB) as the clip gets longer: constant where memory grows with F + A, not with F·A",
              "   F     S     A     F·A  direction        gathered    dense"]  # fmt: skip
    for factor in (1, 2, 4, 8):
        size = (8 * factor, 64, 40 * factor)
        for direction in DIRECTIONS:
            tokens = size[0] * size[1] + size[2]
            held = [memory / tokens / 1024 for _, memory in measure(direction, size, options._replace(repeats=1))]
            growth.append({"size": size, "direction": direction, "kib_per_token": held})
            pairs = size[0] * size[2]
            lines.append(
                f"{size[0]:4d} {size[1]:5d} {size[2]:5d} {pairs:7d}  {direction} {held[0]:10.2f} {held[1]:8.2f}"
            )
    return {"seconds_and_bytes": sizes, "memory_per_token": growth}, "\n".join(lines)


def measure(direction: str, size: tuple[int, int, int], options: CcaOptions) -> list[tuple[float, int]]:
    """(seconds, bytes at the peak) of gathered and of dense, after a check that both give the same."""
    case = Case(direction, size, options)
    with torch.no_grad():
        apart = float((case.gathered() - case.dense()).abs().max())
    if apart > 1e-3:
        raise RuntimeError(f"gathered and dense CCA differ by {apart} at {size}, {direction}")
    return [_measure(form, options) for form in (case.gathered, case.dense)]


def _measure(form: Callable[[], Tensor], options: CcaOptions) -> tuple[float, int]:
    """Seconds of the fastest run, and the most bytes that a run allocates at once."""

    def run() -> None:
        with torch.set_grad_enabled(options.backward):
            out = form()
            if options.backward:
                out.sum().backward()

    seconds = [seconds_of(run, options.device) for _ in range(options.repeats)]
    return min(seconds), peak_bytes(run, options.device)
