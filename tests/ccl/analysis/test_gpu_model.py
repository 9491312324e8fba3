"""Models of full size with random weights: their sizes, what they are made of, and whether they fit."""

from __future__ import annotations

import pytest
import torch

from ccl.analysis.gpu_model import (
    STD,
    all_adamw_bytes,
    case,
    random_inputs,
    random_model,
    sampling_bytes,
    training_bytes,
)
from ccl.routing import Task

CPU, GIB = torch.device("cpu"), 2**30
ROOM = 78 * GIB  # of the smallest GPU that this is for


def test_the_sizes_are_those_that_are_promised() -> None:
    sampling, full = case("sampling", tiny=False), case("full", tiny=False)
    width = {name: stream["num_attention_heads"] * stream["attention_head_dim"]
             for name, stream in sampling.config.items() if name in ("video", "audio")}  # fmt: skip
    assert width == {"video": 3072, "audio": 3072} and sampling.weights is torch.bfloat16
    assert (sampling.tokens.video, sampling.tokens.audio) == (15_004, 157)
    assert full.config["video"]["num_attention_heads"] * 128 == 1536 and full.weights is torch.float32
    assert sampling.clocks[0].duration == pytest.approx(sampling.clocks[1].duration, rel=0.01) == pytest.approx(5, 0.02)
    assert sampling.products_of_block == [(15_004, 3072, 3072), (15_004, 3072, 14336), (15_004, 14336, 3072)]


def test_what_is_measured_fits_and_what_does_not_is_counted() -> None:
    sampling = case("sampling", tiny=False)
    assert sampling_bytes(sampling) < 45e9
    assert training_bytes(case("full", tiny=False), "all") < ROOM
    assert training_bytes(case("adapters", tiny=False), "adapters") < ROOM
    assert all_adamw_bytes(sampling.config) > 2 * ROOM


def test_weights_are_random_the_same_and_in_the_right_precision() -> None:
    of = case("sampling", tiny=True)
    one, other = (random_model(of.config, torch.bfloat16, CPU) for _ in range(2))
    for (name, parameter), same in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(parameter, same), name
        kept = any(part in name for part in ("time_embedder", "scale_shift_table", "norm1", "norm2", "norm3"))
        assert parameter.dtype is (torch.float32 if kept else torch.bfloat16), name
        assert (parameter.float().std() > STD / 4) == (parameter.ndim > 1), name
    assert not list(one.buffers())


def test_a_pass_computes_something() -> None:
    of = case("sampling", tiny=True)
    model = random_model(of.config, of.weights, CPU)
    with torch.no_grad():
        video, audio = model(Task.T2AV.route, *random_inputs(model, of, of.weights))
    assert video.std() > 0 and audio.std() > 0 and video.isfinite().all() and audio.isfinite().all()
