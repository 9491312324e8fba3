"""Compiled blocks: they are really compiled, once per form, and their gradients are the same."""

from __future__ import annotations

import shutil

import pytest
import torch
from tiny import inputs, transformer
from torch import nn
from torch._dynamo.utils import counters

from ccl.routing import Task
from shared.nn import compiling
from shared.nn.compiling import compile_blocks
from shared.utils.errors import UserError


def gradients(model, task, control=None):
    model.zero_grad(set_to_none=True)
    parts = [part for part in model(task.route, *inputs(), video_control=control) if part is not None]
    sum((part * torch.linspace(-1, 1, part.numel()).view(part.shape)).sum() for part in parts).backward()
    return parts, {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def assert_equal(found, expected):
    for one, other in zip(found[0], expected[0], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    # a compiled block gives zeros for what the last block's clean stream does not use, where there was no gradient
    assert found[1].keys() >= expected[1].keys()
    assert not any(found[1][name].any() for name in found[1].keys() - expected[1].keys())
    size = max(float(grad.abs().max()) for grad in expected[1].values())
    for name, grad in expected[1].items():
        assert float((found[1][name] - grad).abs().max()) <= 1e-5 * size, name


@pytest.mark.slow  # every form is compiled by a C++ compiler
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_blocks_have_the_same_gradients(monkeypatch):
    tasks = (Task.T2AV, Task.A2V, Task.V2A)
    model = transformer()
    expected = {task: gradients(model, task) for task in tasks}
    torch._dynamo.reset()
    counters.clear()
    compile_blocks(model, "train.compile")
    for task in tasks:
        assert_equal(gradients(model, task), expected[task])
    compiled = counters["frames"]["ok"]
    assert compiled >= len(tasks) and not counters["graph_break"]
    gradients(model, Task.T2AV)
    assert counters["frames"]["ok"] == compiled  # nothing is compiled twice, for no block and no step


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_control_of_each_step_compiles_nothing_anew():
    model = transformer()
    controls = [lambda index, x, by=by: x + by * (index + 1) for by in (0.1, 0.2, 0.3)]
    expected = [gradients(model, Task.MTV, control) for control in controls]
    torch._dynamo.reset()
    counters.clear()
    compile_blocks(model, "--compile")
    assert_equal(gradients(model, Task.MTV, controls[0]), expected[0])
    compiled = counters["frames"]["ok"]
    assert compiled >= 2  # both halves
    for control, right in zip(controls[1:], expected[1:], strict=True):
        assert_equal(gradients(model, Task.MTV, control), right)
    assert counters["frames"]["ok"] == compiled


def test_what_cannot_be_compiled_is_refused(monkeypatch):
    with pytest.raises(UserError, match="--compile: Linear names no blocks to compile"):
        compile_blocks(nn.Linear(2, 2), "--compile")
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"train.compile: on a CPU a C\+\+ compiler is needed"):
        compile_blocks(transformer(), "train.compile")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(compiling, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="on a GPU the package triton is needed"):
        compile_blocks(transformer(), "train.compile")
