"""Weights of a checkpoint's component in another model, whole or in part; copies to sample from; states of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import CONFIG, transformer

from ccl.transformer import DualStreamTransformer
from shared.nn.parameter_names import part_of
from shared.training.weights import check_names, export_pipeline, initialise, with_weights
from shared.utils.config import Train
from shared.utils.errors import UserError


def is_fusion(name: str) -> bool:
    return part_of(name) == "fusion"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model that is saved."""
    transformer().save_pretrained(tmp_path / "transformer")
    return tmp_path / "transformer"


def test_streams_start_from_a_checkpoint_and_the_rest_stays(folder: Path) -> None:
    model = DualStreamTransformer(**CONFIG | {"context_tokens": 5})
    before, given = model.blocks[0].fusion.video.to_q.weight.clone(), DualStreamTransformer.from_pretrained(folder)
    assert initialise(model, folder, is_fusion) is model
    assert torch.equal(model.video_stream.proj_out.weight, given.video_stream.proj_out.weight)
    assert torch.equal(model.blocks[0].fusion.video.to_q.weight, before)


def test_streams_of_another_size_are_refused_by_name(folder: Path) -> None:
    other = DualStreamTransformer(**CONFIG | {"video": {**CONFIG["video"], "ffn_dim": 8}})
    with pytest.raises(UserError, match=r"blocks\.0\.video\.ffn.* is \[64.*, and \[8.* in the configuration"):
        initialise(other, folder, is_fusion)


def test_a_copy_has_the_given_weights_and_is_another_model() -> None:
    model = transformer()
    weights = {f"transformer.{name}": value + 1 for name, value in model.state_dict().items()}
    copy = with_weights(model.train(), weights | {"control.x": torch.zeros(1)}, "transformer.")
    assert not copy.training and model.training
    assert all(torch.equal(value, model.state_dict()[name] + 1) for name, value in copy.state_dict().items())


class Pipeline:
    """Keeps what it was when it was saved."""

    def __init__(self) -> None:
        self.transformer, self.control = transformer(), None

    def save_pretrained(self, folder: Path, **_: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.dtypes = {name: value.dtype for name, value in self.transformer.named_parameters()}


@pytest.mark.parametrize("export", ["bf16", "fp32"])
def test_an_export_is_rounded_but_for_what_the_model_keeps(tmp_path: Path, export: str) -> None:
    pipeline = Pipeline()
    export_pipeline(pipeline, tmp_path / "out", "a card", Train(steps=1, export_dtype=export))
    kept = {
        name for name in pipeline.dtypes if any(part in name for part in DualStreamTransformer._keep_in_fp32_modules)
    }
    assert kept and (tmp_path / "out/README.md").read_text() == "a card"
    rounded = {name for name, dtype in pipeline.dtypes.items() if dtype == torch.bfloat16}
    assert rounded == (pipeline.dtypes.keys() - kept if export == "bf16" else set())


def test_a_state_of_another_model_is_refused_by_name(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 3)
    weights = {f"transformer.{name}": value for name, value in model.state_dict().items()}
    check_names(weights, {"transformer": model, "control": None}, tmp_path)
    with pytest.raises(UserError, match=r"transformer\.bias is \[3\], and absent in the run's config.yaml"):
        check_names(weights, {"transformer": torch.nn.Linear(2, 3, bias=False)}, tmp_path)
    weights["transformer.bias"] = torch.tensor([0.0, float("inf"), 1.0])
    with pytest.raises(UserError, match=r"the weight transformer\.bias holds NaN or infinity"):
        check_names(weights, {"transformer": model, "control": None}, tmp_path)
