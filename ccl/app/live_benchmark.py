"""A live puppet measured: speech comes as a microphone sends it; delay, frames a second, lips, and the memory.

`python scripts/benchmark.py live` is its command line.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ccl.analysis.benchmark_options import Live
from ccl.analysis.timing import MIB, Spread
from mtv.live import LiveFrames, LivePuppet
from mtv.pipeline import MTVPipeline
from shared.data.media import read_mono
from shared.evaluation.live_lips import lips_follow, one_speaker, recorded
from shared.utils.errors import UserError

PIECE = 0.25  # s that a microphone sends at a time
FLAT = 10  # s after which no more memory should be taken


def live_benchmark(
    options: Live, pipeline: MTVPipeline, sleep: Callable[[float], None] = time.sleep
) -> tuple[dict[str, Any], str]:
    """Measure what `options` ask for: numbers, and the table. UserError for a sound that is too short."""
    pipeline.set_progress_bar_config(disable=True)
    spec, caption = one_speaker(round(pipeline.config.fps))
    rate = pipeline.audio_encoder.sample_rate
    sound = recorded(rate, options.seconds) if options.speech is None else read_mono(options.speech, rate)[0][0]
    sound = sound[: round(options.seconds * rate)]
    puppet = LivePuppet(pipeline, caption, options.seed, options.window, options.steps)
    asked, memory, parts = puppet.steps, [_peak()], list[LiveFrames]()
    begun, piece = time.monotonic(), round(PIECE * rate)
    for first in range(0, len(sound), piece):
        sleep(max(0.0, begun + (first + piece) / rate - time.monotonic()))  # not before it was said
        parts += puppet.hear(sound[first : first + piece], rate)
        memory += [_peak()] if first > FLAT * rate and len(memory) == 1 else []
    lasted, grew = time.monotonic() - begun, _peak() - memory[-1]  # before the frames are read, which takes its own
    if len(parts) < 2:
        raise UserError(f"live: {len(sound) / rate:g} s of sound fill no two windows; give a longer one")
    busy = sum(part.seconds for part in parts[1:]) / (sum(len(part.frames) for part in parts[1:]) / puppet.fps)
    numbers = np.concatenate([part.start + np.arange(len(part.frames)) for part in parts])
    lips, shifted = lips_follow(np.concatenate([part.frames for part in parts]), numbers, sound, rate, spec)
    results = {
        "delay": Spread.of([part.delay for part in parts[1:]])._asdict(), "seconds": len(sound) / rate,
        "longest_delay": max(part.delay for part in parts[1:]), "frames": sum(len(part.frames) for part in parts),
        "frames_per_second": sum(len(part.frames) for part in parts) / lasted, "busy": busy, "steps": puppet.steps,
        "left_out": puppet.left_out, "lips": lips, "lips_shifted": shifted, "memory_grew": grew,
        "notes": [part.note for part in parts if part.note],
    }  # fmt: skip
    lines = [
        f"{options.checkpoint.name}: {len(sound) / rate:.1f} s of speech, windows of {puppet.window} frames, "
        f"{asked} steps; {puppet.steps} at the end", "",
        f"delay, from a sound to its frame  {Spread.of([part.delay for part in parts[1:]]).text()} s, at most "
        f"{results['longest_delay']:.2f} s",
        f"frames a second                   {results['frames_per_second']:.1f} of {puppet.fps:g}; {puppet.left_out} "
        "windows left out",
        f"making them takes                 {busy:.0%} of the time",
        f"lips, with the speech's loudness  {lips:.2f}; with that of half the sound later {shifted:.2f}",
        f"memory taken after {FLAT * (len(memory) - 1):2d} s           {grew / MIB:.1f} MiB", *results["notes"],
    ]  # fmt: skip
    return results, "\n".join(lines)


def _peak() -> int:
    """Most bytes that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
