"""The checkpoint folder: replaced all or nothing, and checked file by file before anything is loaded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from small import pipeline, transformer

from shared.checkpoint.folder import (
    INDEX,
    JOINT,
    OPENER,
    WEIGHTS,
    CheckpointMixin,
    check_checkpoint,
    check_joint,
    load_checkpoint,
    save_checkpoint,
)
from shared.codecs.convolutional import ConvVideoCodec
from shared.encoders import HashedWords
from shared.utils.errors import UserError


class Small(CheckpointMixin, DiffusionPipeline):
    def __init__(self, text_encoder: HashedWords, scheduler: FlowMatchEulerDiscreteScheduler) -> None:
        super().__init__()
        self.register_modules(text_encoder=text_encoder, scheduler=scheduler)


def small(dim: int = 4) -> Small:
    return Small(HashedWords(dim=dim), FlowMatchEulerDiscreteScheduler(shift=2.0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_checkpoint(small(), tmp_path / "saved", "# card")
    return tmp_path / "saved"


def test_saved_is_loaded_with_its_card(folder: Path) -> None:
    loaded = load_checkpoint(Small, folder)
    assert loaded.scheduler.config.shift == 2.0
    assert torch.equal(loaded.text_encoder.null_token, small().text_encoder.null_token)
    assert (folder / "README.md").read_text() == "# card"
    assert set(check_checkpoint(folder)) >= {"text_encoder", "scheduler"}


def test_files_are_no_larger_than_asked_for(tmp_path: Path) -> None:
    class Coder(CheckpointMixin, DiffusionPipeline):
        def __init__(self, video_codec: ConvVideoCodec) -> None:
            super().__init__()
            self.register_modules(video_codec=video_codec)

    save_checkpoint(Coder(ConvVideoCodec()), tmp_path / "saved", "# card", "4MB")
    sizes = [file.stat().st_size for file in (tmp_path / "saved/video_codec").glob("*.safetensors")]
    assert len(sizes) > 2 and max(sizes) < 4_100_000


def test_a_folder_is_replaced_as_a_whole(folder: Path) -> None:
    (folder / "left_over.txt").write_text("old")
    save_checkpoint(small(dim=6), folder, "# new")
    assert load_checkpoint(Small, folder).text_encoder.dim == 6
    assert not (folder / "left_over.txt").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["saved"]


def test_an_interrupted_save_leaves_the_old_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: DiffusionPipeline, path: Path, **_: object) -> None:
        (path / INDEX).write_text("{")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(DiffusionPipeline, "save_pretrained", interrupted)
        save_checkpoint(small(dim=6), folder, "# new")
    assert load_checkpoint(Small, folder).text_encoder.dim == 4
    save_checkpoint(small(dim=6), folder, "# new")
    assert load_checkpoint(Small, folder).text_encoder.dim == 6


@pytest.mark.parametrize(
    "file", [INDEX, "text_encoder/config.json", f"text_encoder/{WEIGHTS}", "scheduler/scheduler_config.json"]
)
def test_a_missing_file_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(UserError, match=f"saved: {file} is missing"):
        check_checkpoint(folder)


@pytest.mark.parametrize("file", [INDEX, "text_encoder/config.json", f"text_encoder/{WEIGHTS}"])
@pytest.mark.parametrize("keep", [0, 20])
def test_a_damaged_file_is_named(folder: Path, file: str, keep: int) -> None:
    (folder / file).write_bytes((folder / file).read_bytes()[:keep])
    with pytest.raises(UserError, match=f"saved: {file} is damaged"):
        load_checkpoint(Small, folder)


def test_a_missing_shard_is_named(folder: Path) -> None:
    shards = {"weight_map": {"null_token": "part-2.safetensors"}}
    (folder / f"text_encoder/{WEIGHTS}.index.json").write_text(json.dumps(shards))
    with pytest.raises(UserError, match=r"text_encoder/part-2\.safetensors is missing"):
        check_checkpoint(folder)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such folder"):
        check_checkpoint(tmp_path / "nowhere")


@pytest.mark.parametrize("module", ["strange_module", "sharedx.evil", "os", ""])
def test_only_known_packages_are_imported(
    folder: Path, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "strange_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    index = json.loads((folder / INDEX).read_text())
    index["text_encoder"][0] = module
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(UserError, match=f"text_encoder from module '{module}', which is not trusted"):
        load_checkpoint(Small, folder)
    assert "strange_module" not in sys.modules


def test_an_entry_of_another_shape_is_refused(folder: Path) -> None:
    index = json.loads((folder / INDEX).read_text())
    (folder / INDEX).write_text(json.dumps(index | {"text_encoder": ["shared.encoders.text"]}))
    with pytest.raises(UserError, match=r"\[module, class\] is expected"):
        check_checkpoint(folder)


def test_a_component_left_out_is_allowed(folder: Path) -> None:
    index = json.loads((folder / INDEX).read_text())
    (folder / INDEX).write_text(json.dumps(index | {"tokenizer": [None, None]}))
    assert check_checkpoint(folder)["tokenizer"] == [None, None]


@pytest.mark.parametrize("file", ["config.json", WEIGHTS])
def test_a_model_inside_a_component_is_checked_too(folder: Path, file: str) -> None:
    """LTX-2's audio codec has its vocoder in a folder of its own."""
    shutil.copytree(folder / "text_encoder", folder / "audio_codec/vocoder")
    for name in ("config.json", WEIGHTS):
        shutil.copy(folder / "text_encoder" / name, folder / "audio_codec" / name)
    index = json.loads((folder / INDEX).read_text())
    codec = {"audio_codec": ["shared.codecs.ltx2_audio", "LTX2AudioCodec"]}
    (folder / INDEX).write_text(json.dumps(index | codec))
    assert check_checkpoint(folder)["audio_codec"] == codec["audio_codec"]
    (folder / "audio_codec/vocoder" / file).unlink()
    with pytest.raises(UserError, match=f"saved: audio_codec/vocoder/{file} is missing"):
        check_checkpoint(folder)


def test_what_joint_sampling_lacks_is_named() -> None:
    index = {name: ["module", "Class"] for name in JOINT}
    check_joint(index)
    with pytest.raises(UserError, match=r"^here: no transformer and no scheduler; copy the whole folder again"):
        check_joint(index | {"transformer": [None, None], "scheduler": None}, "here: ")
    video = {name: kind for name, kind in index.items() if not name.startswith("audio_")}
    with pytest.raises(UserError, match=r"no audio_codec and no audio_scheduler; .* scripts/sample_mtv\.py"):
        check_joint(video)


OPEN = """
import sys
from diffusers import DiffusionPipeline
folder = sys.argv[1]
pipe = DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)
print(type(pipe).__module__, type(pipe.transformer).__name__)
"""


def test_plain_diffusers_opens_a_folder_or_is_told_what_to_install(tmp_path: Path) -> None:
    pipeline(transformer()).save_pretrained(tmp_path / "model")
    words = [sys.executable, "-c", OPEN, str(tmp_path / "model")]
    env = os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules")}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=env)
    assert done.stdout.split() == ["ccl.pipeline", "DualStreamTransformer"], done.stderr
    code = (tmp_path / "model" / OPENER).read_text().replace("import ccl", "import no_ccl")
    with pytest.raises(ImportError, match=r"^this checkpoint is read by the packages ccl, mtv and shared: install "):
        exec(code, {})
