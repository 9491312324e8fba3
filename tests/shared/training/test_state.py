"""OUTPUT/state and config.yaml of a run: whose OUTPUT is, which checkpoints stay, and damage that is told."""

from __future__ import annotations

import pytest
import toy

from shared.training.state import RunState, claim_output
from shared.utils.config import TrainConfig
from shared.utils.errors import UserError


def config_for(folder, *overrides, **train):
    return TrainConfig.load(toy.write_config(folder, folder / "out", **train), list(overrides))


def test_another_configuration_in_the_output_is_refused_by_key(tmp_path, world):
    claim_output(config_for(tmp_path), world)
    claim_output(config_for(tmp_path, "train.checkpoint_every=2", "validation.every=1"), world)
    with pytest.raises(UserError, match=r"optimizer.lr \(0.01 there, 0.5 here\), seed \(0 there, 3 here\)"):
        claim_output(config_for(tmp_path, "optimizer.lr=0.5", "seed=3"), world)


def test_only_the_last_checkpoints_are_kept(tmp_path, world):
    toy.train(config_for(tmp_path, checkpoint_every=2, keep_checkpoints=2), world)
    assert sorted(path.name for path in (tmp_path / "out/state").glob("*step*")) == [
        "step00000006",
        "step00000008",
    ]


def test_a_lost_or_damaged_state_is_refused(tmp_path, world):
    toy.train(config_for(tmp_path), world)
    folder = tmp_path / "out/state"
    about = folder / "step00000008/about.json"
    about.write_text('{"step": 8}')
    with pytest.raises(UserError, match=r"about.json is damaged \('zero'\)"):
        RunState(folder, world, 2).resume(None)
    about.unlink()
    with pytest.raises(UserError, match="step00000008, which is missing or incomplete"):
        RunState(folder, world, 2).resume(None)
