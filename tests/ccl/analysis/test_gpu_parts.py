"""Parts of `make gpu` on a tiny model: what they note, and what they refuse."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from ccl.analysis import gpu_parts
from ccl.analysis.gpu_parts import Skipped, check_room, check_values, describe, plan, sampling, speed, training


@pytest.fixture(autouse=True)
def quick_collections() -> Iterator[None]:
    """As a part's own process: timing collects garbage between rounds, and what is imported is none."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def found() -> dict:
    return {}


@pytest.fixture
def note(found: dict):
    return lambda **values: found.update(values)


def test_sampling_is_timed_by_pass_and_by_step(note, found) -> None:
    sampling(False)(note, True, 60.0)
    assert found["passes_of_a_step"] == 3 and found["model"] == "tiny"
    assert found["step"]["flops"] > 2 * found["pass"]["flops"] > 0
    assert found["peak_bytes"] == pytest.approx(found["forecast_bytes"], rel=0.05)
    assert found["pass"]["mfu_of_matmul"] > 0 and found["pass"]["mfu_of_nominal"] is None


@pytest.mark.parametrize("part", ["adapters", "full"])
def test_training_is_timed(part, note, found) -> None:
    training(part, False)(note, True, 60.0)
    assert found["peak_bytes"] == pytest.approx(found["forecast_bytes"], rel=0.05)
    assert len(found["losses"]) > 3 and (found["learning"] < found["parameters"]) == (part == "adapters")
    assert found["step"]["seconds"] > 0


def test_compiled_blocks_are_compiled(note, found) -> None:
    torch._dynamo.reset()
    sampling(True)(note, True, 60.0)
    assert found["compiled_frames"] >= 2 and found["graph_breaks"] == 0 and found["compile_seconds"] > 0


def test_the_plan_has_all_forecasts(note, found) -> None:
    plan(note, True, 60.0)
    sizes = {name: found[f"{name}_bytes"] for name in ("sampling", "adapters", "full", "all_adamw")}
    assert sizes["sampling"] < sizes["all_adamw"] < sizes["full"] and found["all_adamw_of"] == "tiny"


def test_the_machine_is_described(note, found) -> None:
    describe(note, True, 60.0)
    assert {"processor", "torch", "commit"} <= set(found)


def test_shares_are_of_both_rates() -> None:
    told = speed([1.0, 2.0, 4.0], 1e12, {"matmul_rate": 1e12, "nominal_rate": 2e12}, hardware=4 / 3)
    assert (told["seconds"], told["fastest"], told["slowest"], told["rate"]) == (2.0, 1.0, 4.0, 5e11)
    assert (told["mfu_of_matmul"], told["mfu_of_nominal"]) == (0.5, 0.25)
    assert told["hfu_of_nominal"] == pytest.approx(1 / 3)


def test_what_does_not_fit_is_skipped_by_its_size(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=40 * 2**30))
    check_room(39 * 2**30, torch.device("cuda"))
    check_room(90 * 2**30, torch.device("cpu"))
    with pytest.raises(Skipped, match=r"needs 65\.0 GiB by the forecast; this GPU has 40\.0"):
        check_room(65 * 2**30, torch.device("cuda"))


def test_a_model_that_computes_nan_is_no_result(note, monkeypatch) -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        check_values([torch.zeros(2), torch.tensor([1.0, float("nan")])])
    real = gpu_parts.random_model

    def broken(*arguments):
        model = real(*arguments)
        model.video_stream.proj_out.bias.data[0] = float("inf")
        return model

    monkeypatch.setattr(gpu_parts, "random_model", broken)
    with pytest.raises(ValueError, match="NaN or infinity"):
        sampling(False)(note, True, 60.0)
