"""Attention backends compared with fp32: a single wrong gradient is seen."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch

from ccl.analysis import gpu_attention
from ccl.analysis.gpu_attention import attention, distances, gradients, verdict
from ccl.analysis.gpu_model import case, random_inputs, random_model
from ccl.analysis.gpu_parts import Skipped

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def quick_collections() -> Iterator[None]:
    """As a part's own process: timing collects garbage between rounds, and what is imported is none."""
    gc.freeze()
    yield
    gc.unfreeze()


def test_native_attention_is_measured() -> None:
    found: dict = {}
    attention("native", False)(lambda **values: found.update(values), True, 60.0)
    assert found["equal"] and found["gradient_error"] < 1e-5 and found["peak_bytes"] > 0
    assert found["forward_seconds"] > 0 < found["both_seconds"]  # which is longer, a busy machine may not show


@pytest.mark.parametrize(
    ("name", "why"), [("flash", "needs the package flash_attn"), ("flex", "computes no gradients without a CUDA")]
)
def test_what_cannot_run_here_is_skipped_by_name(name, why) -> None:
    with pytest.raises(Skipped, match=f"'{name}' {why}"):
        attention(name, False)(lambda **values: None, True, 60.0)


def test_one_wrong_gradient_is_seen_and_named(monkeypatch) -> None:
    real = gradients

    def wrong(model, inputs):
        found = real(model, inputs)
        if next(model.parameters()).dtype is torch.float32 and wrong.calls >= 2:
            found["blocks.1.fusion.audio.to_k.weight"] *= 1.01
        wrong.calls += 1
        return found

    wrong.calls = 0
    monkeypatch.setattr(gpu_attention, "gradients", wrong)
    noted: dict = {}
    attention("native", False)(lambda **values: noted.update(values), True, 60.0)
    assert not noted["equal"] and noted["worst"] == "blocks.1.fusion.audio.to_k.weight"
    assert noted["worst_error"] == pytest.approx(0.01, rel=0.01)


def test_bf16_is_near_and_judged_by_native_bf16() -> None:
    of = case("attention", tiny=True)
    rounded = random_model(of.config, torch.bfloat16, CPU)
    inputs = random_inputs(rounded, of, torch.bfloat16)
    found = gradients(rounded, inputs)
    exact = gradients(rounded.float(), gpu_attention._in_fp32(inputs))
    apart = distances(found, exact)
    assert set(apart) == {"output video", "output audio", *(name for name, _ in rounded.named_parameters())}
    assert 1e-4 < max(apart.values()) < 0.2
    assert verdict(apart, apart, 1e-2)["equal"]
    assert not verdict(dict.fromkeys(apart, 0.5), apart, 1e-2)["equal"]
