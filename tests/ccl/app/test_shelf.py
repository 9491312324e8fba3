"""The shelf: which checkpoints can do what, and at most two pipelines in memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ccl.app import shelf as shelf_module
from ccl.app.options import AppOptions, asked
from ccl.app.shelf import Shelf
from ccl.generate import JointOptions
from ccl.pipeline import CCLPipeline
from mtv.pipeline import MTVPipeline
from shared.checkpoint.loading import shipped_checkpoint
from shared.utils.cli import parse
from shared.utils.errors import UserError


def linked(folder: Path, without: tuple[str, ...] = ()) -> Path:
    """The shipped checkpoint under another name, without some parts."""
    folder.mkdir()
    for part in shipped_checkpoint().iterdir():
        if part.name != "model_index.json":
            (folder / part.name).symlink_to(part)
    index = json.loads((shipped_checkpoint() / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {name: [None, None] for name in without}))
    return folder


def test_what_a_checkpoint_can_do(tmp_path: Path) -> None:
    joint, driven = linked(tmp_path / "joint", ("control",)), linked(tmp_path / "driven", ("audio_codec",))
    shelf = Shelf(AppOptions(checkpoint=[shipped_checkpoint(), joint, driven]))
    name = tmp_path.name
    assert shelf.joint_names == ["assets/puppets", f"{name}/joint"]
    assert shelf.driven_names == ["assets/puppets", f"{name}/driven"]
    with pytest.raises(UserError, match=r"checkpoint 'mine': choose one of assets/puppets, .*/joint, .*/driven"):
        shelf.model_options("mine")
    neither = linked(tmp_path / "neither", ("control", "audio_codec"))
    with pytest.raises(UserError, match=r"neither: no audio_codec; a model of the video alone"):
        Shelf(AppOptions(checkpoint=[neither]))
    with pytest.raises(UserError, match="nowhere"):
        Shelf(AppOptions(checkpoint=[tmp_path / "nowhere"]))


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter of one layer of the shipped checkpoint."""
    folder, layer = tmp_path / "mine" / "lora", "transformer.blocks.0.video.attn1.to_q"
    folder.mkdir(parents=True)
    tensors = {f"{layer}.lora_A.weight": torch.ones(2, 192), f"{layer}.lora_B.weight": torch.ones(192, 2)}
    save_file(tensors, folder / "pytorch_lora_weights.safetensors")
    return folder


def test_each_checkpoint_is_offered_with_each_adapter_too(adapter: Path) -> None:
    shelf = Shelf(AppOptions(checkpoint=[shipped_checkpoint()], device="cpu", lora=[str(adapter), f"{adapter}=0.5"]))
    names = ["assets/puppets", "assets/puppets with mine/lora", "assets/puppets with mine/lora=0.5"]
    assert shelf.joint_names == shelf.driven_names == names
    plain, whole, half = (
        shelf.joint(asked(JointOptions, {"prompt": "x", "output": "x.mp4"} | shelf.model_options(name)))
        for name in names
    )
    x = torch.ones(1, 192)
    before, after, between = (one.transformer.blocks[0].video.attn1.to_q(x) for one in (plain, whole, half))
    assert not torch.allclose(before, after)
    torch.testing.assert_close(between, (before + after) / 2)
    with pytest.raises(UserError, match="--lora: two folders end in mine/lora; give each once, or rename one"):
        parse(AppOptions, None, ["--lora", str(adapter), "--lora", str(adapter)])
    with pytest.raises(UserError, match="nowhere: no such file or folder"):
        parse(AppOptions, None, ["--lora", "nowhere"])


def test_folders_of_few_steps_are_known(shelf: Shelf) -> None:
    assert [name for name in shelf.models if shelf.is_few_steps(name)] == ["assets/puppets_few"]


def test_models_are_loaded_once_and_at_most_two_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    loaded: list[tuple[type, Path]] = []

    def load(kind: type, options: JointOptions) -> object:
        loaded.append((kind, options.checkpoint))
        return object()

    monkeypatch.setattr(shelf_module, "_load", load)
    shelf = Shelf(AppOptions())
    one, other = (
        JointOptions(prompt="x", output="x.mp4", checkpoint=path) for path in (shipped_checkpoint(), tmp_path)
    )
    first = shelf.joint(one)
    assert shelf.joint(one) is first and loaded == [(CCLPipeline, shipped_checkpoint())]
    second = shelf.driven(one)
    assert shelf.joint(one) is first  # asked for last
    shelf.joint(other)
    assert shelf.joint(one) is first and shelf.driven(one) is not second
    assert [kind for kind, _ in loaded] == [CCLPipeline, MTVPipeline, CCLPipeline, MTVPipeline]
