"""Bytes that are live on the CPU, for the tests of what is forecast of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from ccl import context_attention
from shared.nn import norms


def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forecasts are of a GPU: norms with a backward of their own, and small attentions as products, are a CPU's; and
    DeepSpeed's ZeRO-3 puts a linear function of its own, which saves other tensors, in torch's place for good."""
    monkeypatch.setattr(torch.nn.functional, "linear", torch._C._nn.linear)
    monkeypatch.setattr(norms, "_own", lambda *tensors: False)
    monkeypatch.setattr(context_attention, "products_are_faster", lambda x: False)


@contextmanager
def saved_bytes(module: torch.nn.Module) -> Iterator[Callable[[], int]]:
    """Counts, while it lasts, the bytes that autograd keeps for the backward pass, weights and buffers left out.

    `with saved_bytes(module) as count: loss = module(...)`, then `count()`. A storage that several operations keep
    counts once; what a checkpointed block would keep is not seen.
    """
    own = {t.untyped_storage()._cdata for t in (*module.parameters(), *module.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield lambda: sum(storage.nbytes() for storage in kept.values())


def allocated(run: Callable[[], Any], backward: bool = True) -> int:
    """The most bytes that a call (and its backward pass) allocates on the CPU, by the profiler's record."""

    def once() -> None:
        result = run()
        if backward:
            result.backward()

    once()  # what is made once
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as recorded:
        once()
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most
