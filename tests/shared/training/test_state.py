"""OUTPUT/state and config.yaml of a run: whose OUTPUT is, which checkpoints stay, and damage that is told."""

from __future__ import annotations

import os
import re
import shutil
import zipfile

import pytest
import torch
import toy

from shared.training.consolidate import StateFolder
from shared.training.state import RunState, _check_clips, claim_output, own_output
from shared.utils.config import TrainConfig, flatten
from shared.utils.distributed import World
from shared.utils.errors import UserError


def config_for(folder, *overrides, **train):
    return TrainConfig.load(toy.write_config(folder, folder / "out", **train), list(overrides))


def test_another_configuration_in_the_output_is_refused_by_key(tmp_path, world):
    claim_output(config_for(tmp_path), world)
    (tmp_path / "out/losses.csv").touch()
    claim_output(config_for(tmp_path, "train.checkpoint_every=2", "validation.every=1"), world)
    with pytest.raises(UserError, match=r"optimizer.lr \(0.01 there, 0.5 here\), seed \(0 there, 3 here\)"):
        claim_output(config_for(tmp_path, "optimizer.lr=0.5", "seed=3"), world)


def test_only_the_last_checkpoints_are_kept(tmp_path, world):
    toy.train(config_for(tmp_path, checkpoint_every=2, keep_checkpoints=2), world)
    assert sorted(path.name for path in (tmp_path / "out/state").glob("*step*")) == [
        "step00000006",
        "step00000008",
    ]


def cut(file):
    file.write_bytes(file.read_bytes()[:-100])


def flip(file):
    """One bit of the largest tensor: what lies between the records of the archive is padding."""
    data = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        record = max(archive.infolist(), key=lambda info: info.file_size)
        held = archive.read(record)
    data[data.index(held) + len(held) // 2] ^= 1
    file.write_bytes(data)


def test_a_run_that_was_refused_before_it_began_takes_another_configuration(tmp_path, world):
    claim_output(config_for(tmp_path), world)
    claim_output(config_for(tmp_path, "seed=3"), world)
    assert "seed: 3" in (tmp_path / "out/config.yaml").read_text()
    (tmp_path / "out/codecs").mkdir()  # fitted to that one's clips
    with pytest.raises(UserError, match="seed"):
        claim_output(config_for(tmp_path, "seed=4"), world)


DAMAGES = {
    "about.json is damaged \\('zero'\\)": lambda state: (state / "step00000008/about.json").write_text('{"step": 8}'),
    "about.json is damaged": lambda state: (state / "step00000008/about.json").write_text(""),
    "step00000008 is incomplete: it has no about.json": lambda state: (state / "step00000008/about.json").unlink(),
    "names step00000008, which is missing or incomplete": lambda state: shutil.rmtree(state / "step00000008"),
    "latest names no checkpoint \\(''\\)": lambda state: ((state / "latest").write_text(""), cut(state_file(state))),
    "damaged \\([0-9]+ bytes of [0-9]+\\)": lambda state: cut(state_file(state)),
    "model_states.pt is damaged": lambda state: flip(state_file(state)),
    "damaged \\(missing\\)": lambda state: state_file(state).unlink(),
    "about.json is damaged \\(.*NUL": lambda state: (state / "step00000008/about.json").write_bytes(b"{}\0"),
    "about.json is damaged \\(is a folder": lambda state: folder_instead(state / "step00000008/about.json"),
    "about.json is damaged \\(.*levels deep": lambda state: (state / "step00000008/about.json").write_text(
        "[" * 5000 + "]" * 5000
    ),
    "about.json is damaged \\(step 4 ": lambda state: shutil.copy(
        state / "step00000004/about.json", state / "step00000008/about.json"
    ),
    "pending.json:1: not JSON": lambda state: (state / "step00000008/pending.json").write_text("[["),
    "pending.json.* is not UTF-8": lambda state: (state / "step00000008/pending.json").write_bytes(b"\xff"),
    "pending.json is damaged \\(at 0.0": lambda state: (state / "step00000008/pending.json").write_text("[[[1]]]"),
    "latest: is a folder": lambda state: (folder_instead(state / "latest"), cut(state_file(state))),
    "latest:1: holds a NUL": lambda state: ((state / "latest").write_bytes(b"step\0"), cut(state_file(state))),
}


def folder_instead(file):
    file.unlink()
    file.mkdir()


def state_file(state):
    return state / "step00000008/mp_rank_00_model_states.pt"


@pytest.mark.parametrize("said", DAMAGES)
def test_a_damaged_state_gives_way_to_the_one_before(said, run, tmp_path, world, caplog):
    """Whatever is wrong with the latest; if nothing is whole, one line says why."""
    folder = tmp_path / "out/state"
    shutil.copytree(run, folder)
    DAMAGES[said](folder)
    assert RunState(folder, world, 2).latest.step == 4
    assert re.search(said, caplog.text) and "the last one before that is whole is step00000004" in caplog.text
    cut(folder / "step00000004/mp_rank_00_model_states.pt")
    with pytest.raises(UserError, match=f"{said}.*step00000004.*none there is whole: copy one again, or delete"):
        RunState(folder, world, 2)


@pytest.fixture(scope="module")
def run(tmp_path_factory, world):
    folder = tmp_path_factory.mktemp("run")
    toy.train(config_for(folder), world)
    return folder / "out/state"


def test_what_a_killed_run_was_about_to_delete_goes_when_it_goes_on(run, tmp_path, world):
    """States beyond those that are kept, and one in the making; not a newer one, which the next save removes."""
    shutil.copytree(run, tmp_path / "state")
    for name in ("step00000002", "partial-step00000009", "step00000009"):
        (tmp_path / "state" / name).mkdir()
    assert RunState(tmp_path / "state", world, 2).latest.step == 8
    there = {path.name for path in (tmp_path / "state").glob("*step*")}
    assert there == {"step00000004", "step00000008", "step00000009"}


def test_a_run_goes_on_from_the_state_before_a_damaged_one_to_the_bit(tmp_path, world):
    whole, _ = toy.train(config_for(tmp_path), world)
    losses = (tmp_path / "out/losses.csv").read_text()
    flip(state_file(tmp_path / "out/state"))
    again, _ = toy.train(config_for(tmp_path), world)
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert (tmp_path / "out/losses.csv").read_text() == losses


@pytest.mark.parametrize(
    "text", ["", "output: [", "- 1", "\udc80", "output: x\n", "train: 5\n", "train: {}\0", "train: " + "[" * 5000]
)
def test_a_damaged_configuration_of_a_run_is_one_line(text, tmp_path, world):
    claim_output(config_for(tmp_path), world)
    (tmp_path / "out/state").mkdir()
    (tmp_path / "out/config.yaml").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=r"config\.yaml is damaged \(.*\); delete it if this configuration is that of"):
        claim_output(config_for(tmp_path), world)


@pytest.mark.parametrize(("text", "done"), [("8", True), ("9" * 18, True), ("9" * 5000, False), ("8\0", False)])
def test_a_damaged_note_of_a_validation_is_none(text, done, run, tmp_path, world):
    """The validation is made again, which gives the same."""
    shutil.copytree(run, tmp_path / "state")
    (tmp_path / "state/validated").write_text(text)
    assert RunState(tmp_path / "state", world, 2).validated(8) == done


def test_a_second_run_in_the_same_folder_is_refused_with_who_is_there(tmp_path, world):
    refused = pytest.raises(UserError, match=f"out: process {os.getpid()} on .* trains in this folder; let it end")
    with own_output(tmp_path / "out", world), refused, own_output(tmp_path / "out", world):
        pass
    with own_output(tmp_path / "out", world):
        pass
    assert not (tmp_path / "out").exists()  # nothing was written to it


def test_more_steps_prolong_a_run_and_the_learning_rate_is_told(tmp_path, world, caplog):
    """With a constant rate a run of 8 steps that is prolonged to 12 is one of 12, to the bit."""
    constant, output = ("optimizer.min_lr_ratio=1", "phases=[]"), tmp_path / "out"
    whole, _ = toy.train(config_for(tmp_path, *constant, steps=12), world)
    losses = (output / "losses.csv").read_text()
    shutil.rmtree(output)
    toy.train(config_for(tmp_path, *constant), world)
    longer, _ = toy.train(config_for(tmp_path, *constant, steps=12), world)
    assert all(torch.equal(whole[name], longer[name]) for name in whole)
    assert (output / "losses.csv").read_text() == losses
    assert (
        "8 steps become 12; the learning rate goes on as the schedule of 12 steps has it, with 0.01 at step 9"
        in caplog.text
    )
    with pytest.raises(UserError, match=r"train\.steps \(12 there, 8 here\)"):
        toy.train(config_for(tmp_path, *constant), world)


def test_a_prolonged_run_goes_on_in_the_longer_schedule(tmp_path, world, caplog):
    toy.train(config_for(tmp_path), world)
    claim_output(config_for(tmp_path, steps=12), world)  # the last phase ends with the training
    assert "with 0.00325 at step 9; that of 8 ends at 0.001" in caplog.text


def test_a_step_filled_by_tokens_keeps_its_number_of_micro_batches(tmp_path):
    train = {"steps": 9, "micro_batch": None, "token_budget": 500, "gradient_accumulation_steps": 2}
    config = TrainConfig.model_validate({"output": "o", "model": {}, "data": {"manifest": "m"}, "train": train})
    before = flatten(config.model_dump(mode="json"))
    latest = StateFolder(tmp_path / "step00000010", 10, 2, 1, 4)  # of two processes
    _check_clips(latest, before, config, World(0, 2, torch.device("cpu")))
    for size, advice in ((1, "set train.gradient_accumulation_steps=4"), (3, "start 2 processes, as before")):
        world = World(0, size, torch.device("cpu"))
        told = f"steps of 4 micro-batches of 500 tokens, and this run's have {2 * size}: {advice}"
        with pytest.raises(UserError, match=re.escape(told)):
            _check_clips(latest, before, config, world)
