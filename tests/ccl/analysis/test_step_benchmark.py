"""One evaluation measured: it is the model's own pass, a clean stream is kept, and its operations are counted."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from ccl.analysis import neighbours
from ccl.analysis import step_benchmark as step
from ccl.analysis.benchmark_options import Step
from ccl.analysis.roofline import count_work
from ccl.flops import Tokens, task_flops
from ccl.routing import Task
from shared.utils.errors import UserError

SMALL = {
    "width": 64, "head_dim": 16, "layers": 2, "grid": "3,4,4", "audio_tokens": 48, "text_tokens": 5, "repeats": 2,
}  # fmt: skip


def made(**changes):
    options = Step(**SMALL | changes)
    config = options.config()
    size = neighbours.Size(config, options.grid, options.audio_tokens, options.text_tokens, options.batch)
    return step.random_model(config, torch.float32, "cpu"), step.random_inputs(size, "cpu")


@pytest.mark.parametrize("task", ["t2av", "t2v", "t2a"])
def test_what_runs_takes_the_operations_that_the_log_counts(task):
    """The fused attention of the CPU, which torch's own counter does not know, is among them."""
    model, inputs = made()
    counted = count_work(step.task_pass(model, Task(task), inputs, backward=False))
    assert counted.attention_flops > 0
    assert counted.flops == task_flops(model, Tokens(3, 16, 48, 5), Task(task))


@pytest.mark.parametrize(("task", "name"), [(Task.A2V, "audio"), (Task.V2A, "video")])
def test_a_clean_stream_has_run_before(task, name):
    """With streams of equal cost a pass takes half of t2av's operations, and what joins them."""
    model, inputs = made()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    kept = count_work(step.task_pass(model, task, inputs, backward=False))
    both = count_work(step.task_pass(model, Task.T2AV, inputs, backward=False))
    assert 0.4 < kept.flops / both.flops < 0.6
    with torch.no_grad():
        context = {**inputs, name: model.context(name, inputs[name])}
        outputs, expected = model(task.route, *context.values()), model(task.route, *inputs.values())
    for one, other in zip(outputs, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other)


def test_the_table_has_every_form_and_its_ratio():
    options = Step(**SMALL | {"tasks": "a2v,t2av", "against": "wan,ltx2,kandinsky6"})
    found, table = step.step_benchmark(options, "cpu")
    names = {"t2av", "a2v", "wan", "ltx2", "kandinsky6"}
    assert set(found["seconds"]) == set(found["peak_bytes"]) == set(found["flops"]) == names
    assert set(found["against"]) == names - {"t2av", "a2v"} and set(found["of_t2av"]) == {"a2v"}
    assert all(size > 0 for size in found["peak_bytes"].values()) and found["roofline"]["t2av"]["share_of_roofline"] > 0
    for line in table.splitlines()[3:-3]:
        assert line.split()[0] in names and ("t2av" in line)


def test_a_backward_pass_takes_more_and_leaves_no_gradient():
    model, inputs = made()
    forward, both = (count_work(step.task_pass(model, Task.T2AV, inputs, backward)) for backward in (False, True))
    assert 2.5 < both.flops / forward.flops < 3.5
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_in_bf16_keeps_what_its_class_keeps():
    model = step.random_model(Step(**SMALL).config(), torch.bfloat16, "cpu")
    kinds = {name: parameter.dtype for name, parameter in model.named_parameters()}
    assert kinds["video_stream.scale_shift_table"] == torch.float32
    assert kinds["blocks.0.video.attn1.to_q.weight"] == torch.bfloat16
    found, _ = step.step_benchmark(Step(**SMALL | {"dtype": "bf16", "against": "wan,ltx2,kandinsky6"}), "cpu")
    assert len(found["against"]) == 3


def test_a_model_of_the_shipped_configurations_is_taken(tmp_path):
    wrong = tmp_path / "own.yaml"
    stream = "{in_channels: 4, text_dim: 8, num_attention_heads: 2, attention_head_dim: 12, ffn_dim: 96, num_layers: 1}"
    wrong.write_text(f"video: {stream}\naudio: {stream}\ncca_heads: 1\ncca_head_dim: 12\nnothing: 1\n")
    with pytest.raises(UserError, match="nothing"):
        step.random_model(Step(model=str(wrong)).config(), torch.float32, "cpu")
    wrong.write_text(wrong.read_text().replace("nothing: 1\n", ""))
    small = {key: value for key, value in SMALL.items() if key not in ("width", "head_dim", "layers")}
    found, table = step.step_benchmark(Step(model=str(wrong), tasks="v2a", **small), "cpu")
    assert "widths 24 + 24, 1 layers" in table and list(found["seconds"]) == ["v2a"]


def test_a_model_larger_than_the_machine_is_refused_before_it_is_made():
    with pytest.raises(UserError, match=r"a model of \d+ GiB of weights does not fit cpu"):
        step.random_model(Step(layers=1, width=2**20).config(), torch.float32, "cpu")


def test_in_mode_gives_gradients_only_where_asked():
    layer, seen = torch.nn.Linear(2, 2), []

    def forward(layer):
        seen.append(torch.is_grad_enabled())
        return layer(torch.ones(1, 2)), None

    for backward in (False, True):
        step.in_mode(partial(forward, layer), layer, backward)()
    assert seen == [False, True]


def test_the_blocks_of_every_model_are_compiled_once(monkeypatch):
    compiled = []
    monkeypatch.setattr(step, "compile_blocks", lambda model, option: compiled.append((type(model).__name__, option)))
    model, _ = made()
    towers, _ = neighbours.neighbour("wan", size_of(), "cpu")
    step.compile_all(model, model, towers)
    assert compiled == [(name, "--compile") for name in ("DualStreamTransformer", *["WanTransformer3DModel"] * 2)]


def test_an_attention_backend_that_cannot_run_is_refused():
    with pytest.raises(UserError, match=r"^--attention 'nothing' is unknown"):
        step.step_benchmark(Step(**SMALL | {"attention": "nothing"}), "cpu")


def size_of() -> neighbours.Size:
    options = Step(**SMALL)
    return neighbours.Size(options.config(), options.grid, options.audio_tokens, options.text_tokens, options.batch)
