"""A step cache for each stream: where a stream hardly changes from one step to the next, what its blocks added stays.

    pipe.transformer.enable_cache(StreamCacheConfig(video=0.1, audio=0.1))

The first block always runs (FBCache's rule): where what it adds to a stream differs by less than a threshold from what
it added when the other blocks last ran, these are left out for that stream, and add what they added then. Each stream
decides for itself. One that runs reads the other, where that is left out, by the hidden states which it had in each
block when it last ran. States of guidance are kept apart: whoever evaluates names them (`cache_context` of diffusers).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from diffusers.hooks import HookRegistry, ModelHook
from diffusers.hooks.hooks import BaseState, StateManager
from torch import Tensor, nn

from shared.nn.cache_context import StreamCacheConfig

HOOK = "stream_cache"


class StreamCacheState(BaseState):
    """Of one state of guidance, by stream: what the first block added when the others last ran (`first`), what they
    added (`rest`), the hidden states that the other stream read, of each block (`read`), and the streams that are left
    out of the evaluation under way, with their hidden states after the first block (`entered`)."""

    def __init__(self) -> None:
        self.reset()

    def reset(self, *args: Any, **kwargs: Any) -> None:
        self.first: dict[str, Tensor] = {}
        self.rest: dict[str, Tensor] = {}
        self.read: dict[tuple[str, int], Tensor] = {}
        self.left_out: set[str] = set()
        self.entered: dict[str, Tensor] = {}


class StreamCacheHook(ModelHook):
    """In the place of a `JointBlock`'s forward; the blocks of a model share the states."""

    _is_stateful = True

    def __init__(self, states: StateManager, config: StreamCacheConfig, index: int, last: bool, report: Evaluations):
        super().__init__()
        self.states, self.config, self.index, self.last, self.report = states, config, index, last, report

    def new_forward(
        self, module: Any, video: Any, audio: Any, route: Any, rotary: Any, cached_video: Any = None,
        cached_audio: Any = None, control: Any = None, half: str = "both",
    ) -> Any:  # fmt: skip
        if half != "both":
            raise ValueError("a step cache needs whole blocks: leave compiling out, or the cache")
        kept, given = self.states.get_state(), {"video": video, "audio": audio}
        if self.index == 0:
            after = self.fn_ref.original_forward(video, audio, route, rotary, cached_video, cached_audio, control)
            self._decide(kept, given, dict(zip(given, after, strict=True)))
            return after
        running = {name: None if name in kept.left_out else state for name, state in given.items()}
        if any(state is not None for state in running.values()):
            read: dict[str, Tensor] = {}
            cached = {"video": cached_video, "audio": cached_audio}
            for name, reader in (("video", "audio"), ("audio", "video")):
                if given[name] is not None and name in kept.left_out and running[reader] is not None:
                    direction = getattr(module.fusion, reader)
                    cached[name] = direction.key_value(kept.read[name, self.index])
            after = self.fn_ref.original_forward(
                running["video"], running["audio"], route, rotary, cached["video"], cached["audio"], control, read=read
            )
            kept.read |= {(name, self.index): x for name, x in read.items()}
            given |= {name: state for name, state in zip(given, after, strict=True) if state is not None}
        if self.last:
            for name, state in given.items():
                if state is not None and name in kept.left_out:
                    given[name] = state.with_x(kept.entered[name] + kept.rest[name])
                elif state is not None:
                    kept.rest[name] = state.x - kept.entered[name]
        return given["video"], given["audio"]

    def _decide(self, kept: StreamCacheState, before: dict[str, Any], after: dict[str, Any]) -> None:
        """Choose the streams that are left out of this evaluation, after its first block."""
        kept.left_out, kept.entered = set(), {}
        for name, state in after.items():
            if state is None:
                continue
            added, kept.entered[name] = state.x - before[name].x, state.x
            if name in kept.rest and kept.rest[name].shape == added.shape:
                change = (added - kept.first[name]).abs().mean() / kept.first[name].abs().mean()
                if change.item() < getattr(self.config, name):
                    kept.left_out.add(name)
            if name not in kept.left_out:
                kept.first[name] = added
            self.report.count(name, name in kept.left_out)

    def reset_state(self, module: nn.Module) -> nn.Module:
        self.states.reset()
        return module


class Evaluations:
    """How often each stream was evaluated, and how often it was left out of it."""

    def __init__(self) -> None:
        self.all = {"video": 0, "audio": 0}
        self.left_out = {"video": 0, "audio": 0}

    def count(self, stream: str, left_out: bool) -> None:
        self.all[stream] += 1
        self.left_out[stream] += left_out


def apply_stream_cache(blocks: Iterable[nn.Module], config: StreamCacheConfig) -> Evaluations:
    """Register the hooks on a model's joint blocks. ValueError for fewer than two blocks, or compiled ones."""
    blocks = list(blocks)
    if len(blocks) < 2:
        raise ValueError(f"a step cache leaves all blocks but the first out; the model has {len(blocks)}")
    if any(getattr(block, "_compiled_call_impl", None) is not None for block in blocks):
        raise ValueError("a step cache needs blocks that are not compiled")
    states, report = StateManager(StreamCacheState), Evaluations()
    for index, block in enumerate(blocks):
        hook = StreamCacheHook(states, config, index, index == len(blocks) - 1, report)
        HookRegistry.check_if_exists_or_initialize(block).register_hook(hook, HOOK)
    return report
