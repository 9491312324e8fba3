"""LoRA on small models: what learns, what is written, loaded, fused and taken out again, and what is refused."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders import PeftAdapterMixin
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small import pipeline, randomised, sample, transformer
from torch import Tensor, nn

from ccl.pipeline import CCLPipeline
from mtv.control import MSTControlNet
from shared.checkpoint.lora import (
    add_lora,
    base_weights,
    linear_layers,
    lora_card,
    lora_weights,
    save_lora,
    seed_dropout,
)
from shared.checkpoint.lora_file import FILE, METADATA
from shared.utils.config import Lora
from shared.utils.errors import UserError
from shared.utils.rng import generator


def network() -> MSTControlNet:
    sizes = {"token_dim": 16, "tokens": 2, "interaction_blocks": 1, "heads": 2, "ffn_dim": 16, "hidden_dim": 16}
    tracks = dict.fromkeys(("speech", "effects", "music"), (1, 1, 8))
    return MSTControlNet(backbone_dim=24, backbone_heads=2, num_blocks=2, tracks=tracks, **sizes)


@pytest.fixture
def pipe() -> CCLPipeline:
    return pipeline(transformer())


def trained(name: str, settings: Lora | None = None) -> dict[str, Tensor]:
    """The state dict of a run whose adapters have learnt something; both sides are random."""
    settings = settings or Lora(rank=2, alpha=3, targets=["attention", "cross-modal"])
    model = transformer()
    add_lora(model, None, settings, seed=0)
    for key, weight in model.named_parameters():
        if "lora_" in key:
            nn.init.normal_(weight, std=0.2, generator=generator(0, name, key))
    return {f"transformer.{key}": value.detach().clone() for key, value in model.state_dict().items()}


def written(folder: Path, name: str = "a", settings: Lora | None = None) -> Path:
    settings = settings or Lora(rank=2, alpha=3, targets=["attention", "cross-modal"])
    save_lora(trained(name, settings), folder / name, "a card", settings)
    return folder / name


def test_only_adapters_learn_and_an_untrained_one_changes_nothing() -> None:
    plain, model = transformer(), transformer().requires_grad_(False)
    add_lora(model, None, Lora(rank=2, targets=["attention"]), seed=0)
    learning = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert len(learning) == 2 * 2 * 2 * 8  # A and B, streams, blocks, projections
    assert all(".lora_" in name and ".attn" in name for name in learning)
    theirs = plain.state_dict()
    ours = base_weights({f"transformer.{name}": value for name, value in model.state_dict().items()})
    assert set(ours) == {f"transformer.{name}" for name in theirs}
    assert all(torch.equal(ours[f"transformer.{name}"], value) for name, value in theirs.items())
    states = model.state_dict()
    assert all(not states[name].any() for name in states if "lora_B" in name)
    assert all(states[name].any() for name in states if "lora_A" in name)


def test_what_also_learns_goes_on_learning() -> None:
    model = transformer().requires_grad_(False)
    for block in model.blocks:
        block.fusion.video.requires_grad_(True)
    add_lora(model, None, Lora(rank=2, targets=["audio"], modules_to_save=["transformer"]), seed=0)
    learning = {name for name, weight in model.named_parameters() if weight.requires_grad}
    whole = {name for name, _ in model.named_parameters() if ".fusion.video." in name}
    assert whole and whole < learning
    assert all(re.match(r"blocks\.\d+\.audio\..*lora_", name) for name in learning - whole)


def test_the_first_weights_follow_the_seed_alone() -> None:
    first, other, again = transformer(), transformer(), transformer()
    add_lora(first, None, Lora(rank=2), seed=1)
    torch.manual_seed(5)
    add_lora(again, None, Lora(rank=2), seed=1)
    add_lora(other, None, Lora(rank=2), seed=2)
    name = next(name for name, _ in first.named_parameters() if "lora_A" in name)
    assert torch.equal(first.state_dict()[name], again.state_dict()[name])
    assert not torch.equal(first.state_dict()[name], other.state_dict()[name])


def test_dropout_follows_step_and_clips() -> None:
    class Objective(nn.Module):
        def forward(self, batch: Any) -> Tensor:
            return nn.functional.dropout(torch.ones(64), 0.5)

    class Batch:
        def __init__(self, step: int, *ids: str) -> None:
            self.step, self.ids = step, list(ids)

    objective = Objective()
    seed_dropout(objective, 0)
    first = objective(Batch(1, "a", "b"))
    other = objective(Batch(2, "a", "b"))
    assert torch.equal(first, objective(Batch(1, "a", "b"))) and not torch.equal(first, other)
    assert not torch.equal(first, objective(Batch(1, "a", "c")))


def test_saved_is_loaded_fused_and_unloaded(pipe: CCLPipeline, tmp_path: Path) -> None:
    base = sample(pipe)
    folder = written(tmp_path)
    weights = trained("a")
    with safe_open(folder / FILE, "pt") as handle:
        names = list(handle.keys())
    assert set(names) == set(lora_weights(weights)) and all(".lora_" in name for name in names)
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", FILE]
    pipe.load_lora_weights(folder)
    assert pipe.get_active_adapters() == ["default_0"]
    changed = sample(pipe)
    assert (changed - base).abs().max() > 0.01
    # by hand: W + alpha / rank · B A
    layer, name = pipe.transformer.blocks[1].video.attn2.to_v, "transformer.blocks.1.video.attn2.to_v"
    a, b = (weights[f"{name}.lora_{side}.default.weight"] for side in "AB")
    pipe.fuse_lora()
    torch.testing.assert_close(layer.get_base_layer().weight, weights[f"{name}.base_layer.weight"] + 1.5 * b @ a)
    torch.testing.assert_close(sample(pipe), changed, rtol=0, atol=1e-4)
    pipe.unfuse_lora()
    torch.testing.assert_close(sample(pipe), changed, rtol=0, atol=1e-4)


def test_after_unloading_the_base_is_back_to_the_bit(pipe: CCLPipeline, tmp_path: Path) -> None:
    base, names = sample(pipe), set(pipe.transformer.state_dict())
    pipe.load_lora_weights(written(tmp_path), adapter_name="a")
    pipe.load_lora_weights(written(tmp_path, "b") / FILE, adapter_name="b")
    pipe.unload_lora_weights()
    assert torch.equal(sample(pipe), base) and set(pipe.transformer.state_dict()) == names
    pipe.load_lora_weights(written(tmp_path), adapter_name="a")  # the name is free again
    assert not torch.equal(sample(pipe), base)


def test_two_adapters_add_up_at_their_scales(pipe: CCLPipeline, tmp_path: Path) -> None:
    settings = {"a": Lora(rank=2, targets=["attention"]), "b": Lora(rank=4, targets=["video"])}
    weights = {name: trained(name, one) for name, one in settings.items()}
    for name, one in settings.items():
        pipe.load_lora_weights(written(tmp_path, name, one), adapter_name=name)
    alone = sample(pipe)
    pipe.set_adapters("b")
    assert torch.equal(sample(pipe), alone)  # what was loaded last acts
    pipe.set_adapters(["a", "b"], [0.5, 2.0])
    both = sample(pipe)
    merged = copy.deepcopy(pipe)
    merged.unload_lora_weights()
    for name, scale in (("a", 0.5), ("b", 2.0)):
        for layer, linear in linear_layers(merged.transformer).items():
            if (a := weights[name].get(f"transformer.{layer}.lora_A.default.weight")) is not None:
                linear.weight.data += scale * weights[name][f"transformer.{layer}.lora_B.default.weight"] @ a
    torch.testing.assert_close(both, sample(merged), rtol=0, atol=1e-4)
    assert (both - alone).abs().max() > 0.01
    pipe.fuse_lora()
    torch.testing.assert_close(sample(pipe), both, rtol=0, atol=1e-4)


def test_a_fused_pipeline_is_saved_as_a_checkpoint(pipe: CCLPipeline, tmp_path: Path) -> None:
    pipe.load_lora_weights(written(tmp_path))
    with pytest.raises(UserError, match="adapters are loaded"):
        pipe.save_pretrained(tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
    pipe.fuse_lora()
    fused = sample(pipe)
    pipe.unload_lora_weights()
    assert torch.equal(sample(pipe), fused)
    pipe.save_pretrained(tmp_path / "merged")
    loaded = CCLPipeline.from_pretrained(tmp_path / "merged")
    loaded.set_progress_bar_config(disable=True)
    assert torch.equal(sample(loaded), fused)


def test_a_file_without_settings_has_scale_one(pipe: CCLPipeline, tmp_path: Path) -> None:
    file = written(tmp_path) / FILE
    pipe.load_lora_weights(file, adapter_name="a")
    said = sample(pipe)
    pipe.set_adapters("a", 1 / 1.5)
    expected = sample(pipe)
    pipe.unload_lora_weights()
    save_file(load_file(file), tmp_path / "plain.safetensors")
    pipe.load_lora_weights(tmp_path / "plain.safetensors")
    torch.testing.assert_close(sample(pipe), expected, rtol=0, atol=1e-5)
    assert (said - expected).abs().max() > 1e-3


def test_a_folder_is_replaced_whole_and_its_card_says_what_it_is(tmp_path: Path) -> None:
    settings = Lora(rank=2, alpha=3)
    card = lora_card("---\nx\n---\n# Joint\n\n| | |\n|---|---|\n| clips | 4 |\n", settings, "base")
    assert "Rank 2, alpha 3" in card and "| clips | 4 |" in card and "# Joint" not in card
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora/old").write_text("old")
    save_lora(trained("a", settings), tmp_path / "lora", card, settings, torch.bfloat16)
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["README.md", "lora", FILE]
    assert {value.dtype for value in load_file(tmp_path / "lora" / FILE).values()} == {torch.bfloat16}
    with safe_open(tmp_path / "lora" / FILE, "pt") as handle:
        said = json.loads(handle.metadata()[METADATA])
    assert said.items() >= {"transformer.r": 2, "transformer.lora_alpha": 3, "transformer.lora_bias": False}.items()
    assert len(said["transformer.target_modules"]) == 2 * 2 * 8


@pytest.mark.skipif(not issubclass(MSTControlNet, PeftAdapterMixin), reason="the control network takes no adapters")
def test_the_control_network_has_adapters_of_its_own(pipe: CCLPipeline, tmp_path: Path) -> None:
    settings = Lora(rank=2, targets=["control", r"transformer\.blocks\.1\.video\.ffn\..+"])
    model, control = transformer(), randomised(network())
    add_lora(model, control, settings, seed=0)
    parts = {"transformer": model, "control": control}
    for part in parts.values():
        for name, weight in part.named_parameters():
            if weight.requires_grad:
                nn.init.normal_(weight, std=0.2, generator=generator(0, "both", name))
    weights = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}
    assert len({name.rpartition(".lora_")[0] for name in lora_weights(weights) if name.startswith("transformer.")}) == 2
    save_lora(weights, tmp_path / "lora", "a card", settings)
    with pytest.raises(UserError, match="changes control, of which this pipeline has none"):
        pipe.load_lora_weights(tmp_path / "lora")
    pipe.register_modules(control=randomised(network()))
    before = {name: value.clone() for name, value in pipe.control.state_dict().items()}
    pipe.load_lora_weights(tmp_path / "lora")
    name = "interval_injection.1.attentions.speech.to_q"
    a, b = (weights[f"control.{name}.lora_{side}.default.weight"] for side in "AB")
    pipe.fuse_lora()
    fused = pipe.control.state_dict()[f"{name}.base_layer.weight"]
    torch.testing.assert_close(fused, before[f"{name}.weight"] + b @ a)
    pipe.unfuse_lora()
    pipe.unload_lora_weights()
    assert set(pipe.control.state_dict()) == set(before)


@pytest.mark.parametrize(
    ("targets", "rank", "said"),
    [
        (["nothing"], 2, "'nothing' names no linear layer"),
        (["attn1"], 2, "'attn1' names no linear layer"),  # whole names
        (["("], 2, "no preset and no regular expression"),
        (["control"], 2, "'control' names no linear layer"),
        (["attention"], 25, r"25 exceeds a side of transformer\.blocks\.0\.video.* \(24x24\)"),
    ],
)
def test_targets_that_fit_no_layer_are_refused(targets: list[str], rank: int, said: str) -> None:
    with pytest.raises(UserError, match=said):
        add_lora(transformer(), None, Lora(rank=rank, targets=targets), seed=0)


def changed(file: Path, change: Any, metadata: dict[str, str] | None = None) -> Path:
    weights = load_file(file)
    change(weights)
    save_file(weights, file.with_name("changed.safetensors"), metadata=metadata)
    return file.with_name("changed.safetensors")


NAME = "transformer.blocks.0.video.attn1.to_q"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w.pop(f"{NAME}.lora_A.weight"), f"{NAME} has only one of lora_A and lora_B"),
        (lambda w: w.update({f"{NAME}.lora_A.weight": torch.ones(2, 23)}), r"must be \[rank, 24\] and \[24, rank\]"),
        (lambda w: w.update({f"{NAME}.lora_B.weight": torch.ones(24, 3)}), r"has A \[2, 24\] and B \[24, 3\]"),
        (lambda w: w.update({f"{NAME}.weight": torch.ones(2)}), f"{NAME}.weight is unknown"),
        (lambda w: w.update({f"{NAME}.lora_A.weight": torch.ones(24, 2)}), r"has A \[24, 2\] and B \[24, 2\]"),
        (lambda w: w.update({f"{NAME}.lora_A.weight": torch.ones(2, 24).long()}), "lora_A.weight is in I64"),
        (
            lambda w: w.update(
                {f"{NAME}.lora_A.weight": torch.ones(5000, 24), f"{NAME}.lora_B.weight": torch.ones(24, 5000)}
            ),
            "has rank 5000; 1 to 4096 can be",
        ),
        (
            lambda w: w.update(
                {f"{NAME}.lora_A.weight": torch.ones(0, 24), f"{NAME}.lora_B.weight": torch.ones(24, 0)}
            ),
            "has rank 0; 1 to 4096 can be",
        ),
        (
            lambda w: w.update({f"transformer.blocks.0.x.lora_{s}.weight": torch.ones(2, 2) for s in "AB"}),
            r"has no layer transformer\.blocks\.0\.x; it belongs to another one",
        ),
        (
            lambda w: w.update({f"unet.x.lora_{s}.weight": torch.ones(2, 2) for s in "AB"}),
            r"has no layer transformer\.unet\.x",
        ),
        (lambda w: [w.pop(name) for name in list(w)] and w.update(x=torch.ones(2)), "holds no LoRA weights"),
    ],
)
def test_a_file_of_another_model_is_refused(pipe: CCLPipeline, tmp_path: Path, change: Any, said: str) -> None:
    file = changed(written(tmp_path) / FILE, change)
    with pytest.raises(UserError, match=said):
        pipe.load_lora_weights(file)
    assert not pipe.get_list_adapters()


def test_settings_that_do_not_fit_their_weights_are_refused(pipe: CCLPipeline, tmp_path: Path) -> None:
    for about, said in (
        ({"transformer.r": 4, "transformer.lora_alpha": 4}, r"says rank 4, its weights have \[2\]"),
        ({"transformer.r": 2, "transformer.lora_alpha": "x"}, "alpha 'x' is no number"),
        ({"transformer.r": 2, "transformer.lora_alpha": float("nan")}, "NaN is no number of JSON"),
        ({"transformer.r": 2}, "alpha None is no number"),
        ({"transformer.lora_alpha": 2}, r"says rank None, its weights have \[2\]"),
        ({"transformer.r": 10**9, "transformer.lora_alpha": 2}, "says rank 1000000000"),
        ({"transformer.r": 2, "transformer.lora_alpha": 2, "transformer.use_rslora": True}, "plain LoRA alone"),
        ({"transformer.r": 2, "transformer.lora_alpha": 2, "transformer.use_dora": True}, "plain LoRA alone"),
        ([1, 2], "holds no settings by name"),
        (
            {"transformer.r": 2, "transformer.lora_alpha": 2, "transformer.rank_pattern": {"to_q": 1}},
            r"says rank 1, its weights have \[2\]",
        ),
        (
            {"transformer.r": 2, "transformer.lora_alpha": 2, "transformer.alpha_pattern": {"to_q": "x"}},
            "alpha 'x' is no number",
        ),
        ({"transformer.r": 2, "transformer.alpha_pattern": [1]}, "transformer.alpha_pattern is no table"),
    ):
        file = changed(written(tmp_path) / FILE, lambda w: None, {METADATA: json.dumps(about)})
        with pytest.raises(UserError, match=said):
            pipe.load_lora_weights(file)
    assert not pipe.get_list_adapters()


def test_what_is_no_safetensors_file_is_refused(pipe: CCLPipeline, tmp_path: Path) -> None:
    (tmp_path / "pickled").mkdir()
    torch.save({}, tmp_path / "pickled/pytorch_lora_weights.bin")
    (tmp_path / "torn.safetensors").write_bytes(b"no weights")
    (tmp_path / "empty").mkdir()
    for source, said in (
        ("pickled", "a pickle is not opened"),
        ("pickled/pytorch_lora_weights.bin", "a pickle is not opened"),
        ("torn.safetensors", "cannot be read"),
        ("empty", f"no {FILE} in it"),
        ("nowhere", "no such file or folder"),
    ):
        with pytest.raises(UserError, match=said):
            pipe.load_lora_weights(tmp_path / source)


def test_names_and_order_that_do_not_go_are_refused(pipe: CCLPipeline, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no adapters are loaded"):
        pipe.fuse_lora()
    pipe.load_lora_weights(written(tmp_path), adapter_name="a")
    with pytest.raises(UserError, match="there are adapters of the name 'a'"):
        pipe.load_lora_weights(written(tmp_path, "b"), adapter_name="a")
    pipe.fuse_lora()
    with pytest.raises(UserError, match="a is fused already"):
        pipe.fuse_lora()
    pipe.unfuse_lora()
    pipe.set_memory("balanced", "cpu")
    with pytest.raises(UserError, match="comes before set_memory"):
        pipe.load_lora_weights(written(tmp_path, "c"))
