"""Training of the control network: new ones, what they start from, and what learns."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny import CONFIG, noise, transformer
from torch import nn

from mtv.control import MSTControlNet
from mtv.control_training import build_control, freeze, start_control
from shared.utils.errors import UserError

ENCODER = SimpleNamespace(window=3, layers=1, dim=4)
ENCODERS = dict.fromkeys(("speech", "effects", "music"), ENCODER)
SMALL = {"token_dim": 8, "tokens": 2, "interaction_blocks": 1, "heads": 2, "ffn_dim": 8, "hidden_dim": 8}
BACKBONE = SimpleNamespace(**{name: CONFIG["video"][name] for name in (
    "num_attention_heads", "attention_head_dim", "num_layers",
)})  # fmt: skip


def network(**settings: object) -> MSTControlNet:
    return build_control(BACKBONE, ENCODERS, 4, SMALL | settings, 7)  # type: ignore[arg-type]


def features(track: str) -> list[torch.Tensor]:
    return [3 + 2 * noise(track, 9, 3, 1, 4)]


def same(first: nn.Module, second: nn.Module, *but: str) -> set[str]:
    """Names of the state that is equal in both, but for those that begin so."""
    theirs = second.state_dict()
    return {name for name, value in first.state_dict().items() if value.equal(theirs[name])} - set(but)


def test_a_new_network_fits_the_backbone_and_is_the_seeds_own() -> None:
    control = network()
    assert control.config.backbone_dim == 48 and control.config.num_blocks == 2
    assert tuple(control.config.tracks["music"]) == (3, 1, 4) and control.config.temporal_stride == 4
    torch.manual_seed(1)
    assert same(control, network()) == control.state_dict().keys()


def test_settings_that_are_none_of_its_own_or_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match=r"control: .*'width'.*; see configs/model/puppets_control\.yaml"):
        network(width=3)
    with pytest.raises(UserError, match="control: heads must divide their width: 2 of 48, 3 of 8"):
        network(heads=3)


def test_new_track_encoders_standardise_what_they_read(tmp_path: Path) -> None:
    control, bare = network(), network()
    start_control(control, None, (), features)
    start_control(bare, str(tmp_path), (), None)
    for track in ENCODERS:
        encoder = control.track_encoders[track]
        torch.testing.assert_close(encoder.feature_mean, features(track)[0].mean(0).flatten())
        assert not bare.track_encoders[track].feature_mean.any()


def test_a_network_starts_from_a_checkpoints_or_begins_anew(tmp_path: Path) -> None:
    """Music's way may begin anew alone: its weights do, what its biases add to every clip stays."""
    given = network()
    for parameter in given.parameters():
        nn.init.normal_(parameter)
    given.save_pretrained(tmp_path / "control")
    names = given.state_dict().keys()
    whole, anew, music = network(), network(), network()
    start_control(whole, str(tmp_path), (), features)
    start_control(anew, str(tmp_path), ("control",), None)
    start_control(music, str(tmp_path), ("holistic",), features)
    assert same(whole, given) == names and same(anew, network()) == names
    begun = {n for n in names if n.startswith(MSTControlNet.HOLISTIC) and not n.endswith("to_style.bias")}
    learnt = {n for n, _ in given.named_parameters()}
    assert names - same(music, given) <= begun and not same(music, given) & begun & learnt
    torch.testing.assert_close(music.track_encoders["music"].feature_mean, features("music")[0].mean(0).flatten())
    other = build_control(BACKBONE, ENCODERS, 2, SMALL, 7)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"pool\.weight is .*; make them agree"):
        start_control(other, str(tmp_path), (), None)


@pytest.mark.parametrize(
    ("parts", "learns"),
    [
        (["transformer", "control"], {"transformer", "control", "attention", "holistic"}),
        (["attention"], {"attention"}),
        (["control"], {"control", "holistic"}),
        (["holistic"], {"holistic"}),
        ([], set()),
    ],
)
def test_only_what_is_named_learns(parts: list[str], learns: set[str]) -> None:
    model, control = transformer(), network()
    blocks = nn.ModuleList(block.video for block in model.blocks)
    freeze(model, blocks, control, parts)
    kinds = {
        "attention": [p for n, p in blocks.named_parameters() if "attn" in n],
        "transformer": [p for n, p in model.named_parameters() if ".video.attn" not in n],
        "holistic": control.holistic_parameters(),
        "control": [p for n, p in control.named_parameters() if not n.startswith(MSTControlNet.HOLISTIC)],
    }
    found = {kind: {parameter.requires_grad for parameter in parameters} for kind, parameters in kinds.items()}
    assert found == {kind: {kind in learns} for kind in kinds}
    freeze(model, blocks, None, parts)
