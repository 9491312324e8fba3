"""probe.py on a few clips of the puppets and the tiny checkpoint."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import ccl.analysis.probe
from scripts import make_puppets, probe
from shared.data.manifest import Clip, read_manifest, write_manifest
from shared.utils.errors import UserError

CLIPS = 4


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("held_out")
    more = ["--seed", "77", "--size", "32", "--workers", "1"]
    make_puppets.main(["--clips", str(CLIPS), "--output", str(folder), *more])
    return folder / "manifest.jsonl"


def line(checkpoint: Path, manifest: Path, output: Path, *more: str) -> list[str]:
    given = ["--checkpoint", str(checkpoint), "--manifest", str(manifest), "--output", str(output)]
    return [*given, "--device", "cpu", "--levels", "2", "--sampled", "2", "--steps", "1", *more]


@pytest.fixture(scope="module")
def measured(checkpoint: Path, manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """All probes, against the checkpoint itself, with pictures."""
    folder = tmp_path_factory.mktemp("probe")
    more = ["--pictures", str(folder / "maps"), "--against", str(checkpoint)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ccl.analysis.probe, "PICTURED", 2)
        probe.main(line(checkpoint, manifest, folder / "new" / "all.json", *more))
    return json.loads((folder / "new" / "all.json").read_text()), folder


def test_the_file_holds_every_probe(measured: tuple[dict[str, Any], Path], manifest: Path) -> None:
    result, folder = measured
    ids = [clip.id for clip in read_manifest(manifest)]
    loss, gain = result["loss"], result["gain"]
    assert {task: set(found) for task, found in loss.items()} == {
        "t2av": {"video", "audio", "joint"}, "t2v": {"video"}, "t2a": {"audio"}, "a2v": {"video"}, "v2a": {"audio"},
    }  # fmt: skip
    for found in (loss["t2av"]["joint"], loss["a2v"]["video"], gain["t2av"]["audio"], gain["v2a"]["audio"]):
        assert list(found["per_clip"]) == ids and found["interval"][0] <= found["mean"] <= found["interval"][1]
    joint = loss["t2av"]["joint"]["mean"]
    assert joint == pytest.approx(loss["t2av"]["video"]["mean"] + loss["t2av"]["audio"]["mean"])
    assert sum(b["mean"] for b in loss["t2v"]["video"]["buckets"].values()) / 2 == pytest.approx(
        loss["t2v"]["video"]["mean"]
    )
    assert gain["a2v"]["video"]["mean"] == pytest.approx(loss["t2v"]["video"]["mean"] - loss["a2v"]["video"]["mean"])
    assert gain["a2v"]["video"]["mean"] != 0
    assert result["text"]["t2v"]["video"]["mean"] != 0 and set(result["text"]) == set(loss)
    for stream in ("t2v.video", "t2a.audio"):
        task, name = stream.split(".")
        assert set(result["forgetting"][task][name]["per_clip"].values()) == {0.0}
    assert set(result["leakage"]) == {"a2v", "v2a"} and list(result["leakage"]["a2v"]["per_clip"]) == ids[:2]
    assert result["leakage"]["a2v"]["mean"] > 0 and result["leakage"]["a2v"]["inside"] > 0
    video = result["attention"]["video"]
    assert video["foreground"]["lct"] + video["foreground"]["other"] == pytest.approx(1) and len(video["blocks"]) == 1
    assert result["model"]["parameters"] > result["model"]["cross_modal_parameters"] > 0 < result["model"]["flops"]
    assert result["settings"]["clips"] == CLIPS and len(result["settings"]["u"]) == 2
    assert sorted(file.stem for file in (folder / "maps").iterdir()) == sorted(ids[:2])


def test_twice_is_the_same_to_the_bit_and_parts_are_those_of_the_whole(
    measured: tuple[dict[str, Any], Path], checkpoint: Path, manifest: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    probe.main(line(checkpoint, manifest, tmp_path / "p.json", "--probes", "leakage, gain,attention"))
    result = json.loads((tmp_path / "p.json").read_text())
    assert set(result) == {"gain", "leakage", "attention", "settings"}
    for name in ("gain", "leakage", "attention"):
        assert result[name] == measured[0][name], name
    out = capsys.readouterr().out
    assert "gain       t2av joint" in out and "attention  audio background: lct" in out
    assert [file.name for file in tmp_path.iterdir()] == ["p.json"]


def test_clips_without_truth_are_named_with_what_can_be_done(checkpoint: Path, manifest: Path, tmp_path: Path) -> None:
    clips = read_manifest(manifest)
    bare = Clip(id="bare", video=clips[1].video, caption="A bell.")
    write_manifest(tmp_path / "m.jsonl", [clips[0], bare])
    with pytest.raises(UserError, match=r"clip 'bare' has no truth.* --probes loss,text,gain,model"):
        probe.main(line(checkpoint, tmp_path / "m.jsonl", tmp_path / "new" / "p.json"))
    assert not (tmp_path / "new").exists()
    probe.main(line(checkpoint, tmp_path / "m.jsonl", tmp_path / "p.json", "--probes", "loss,model"))
    assert set(json.loads((tmp_path / "p.json").read_text())) == {"loss", "model", "settings"}
    (tmp_path / "truth.json").write_text('{"characters": []}')
    write_manifest(tmp_path / "m.jsonl", [clips[0].model_copy(update={"truth": tmp_path / "truth.json"})])
    with pytest.raises(UserError, match=r"truth\.json: has no objects"):
        probe.main(line(checkpoint, tmp_path / "m.jsonl", tmp_path / "q.json"))


def test_leakage_needs_a_partner(checkpoint: Path, manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs two clips of one length"):
        probe.main(line(checkpoint, manifest, tmp_path / "p.json", "--probes", "leakage", "--clips", "1"))
    assert not (tmp_path / "p.json").exists()


def test_a_checkpoint_without_the_joint_model_is_refused(checkpoint: Path, manifest: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(checkpoint, other)
    index = json.loads((other / "model_index.json").read_text())
    (other / "model_index.json").write_text(json.dumps(index | {"audio_codec": [None, None]}))
    for option, folders in (("--checkpoint", (other, checkpoint)), ("--against", (checkpoint, other))):
        with pytest.raises(UserError, match=f"{option} {re.escape(str(other))}: holds no joint model"):
            probe.main(line(folders[0], manifest, tmp_path / "p.json", "--against", str(folders[1])))
    (other / "model_index.json").write_text(json.dumps(index | {"transformer": ["diffusers", "WanTransformer3DModel"]}))
    with pytest.raises(UserError, match="holds no joint model"):
        probe.main(line(other, manifest, tmp_path / "p.json"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--clips", "0"], "--clips 0: Input should be greater than or equal to 1"),
        (["--sampled", "1"], "--sampled 1: Input should be greater than or equal to 2"),
        (["--probes", "loss,taste"], "--probes taste: give some of loss,text,gain,leakage,attention,model"),
        (["--probes", "loss", "--pictures", "maps"], "--pictures shows attention"),
        (["--probes", "gain", "--against", "towers"], "--against compares losses"),
        (["--output", "probe.txt"], "must end in .json"),
        (["--checkpoint", "nowhere"], "checkpoint nowhere: no such folder"),
        (["--manifest", "nowhere"], "nowhere: no such manifest"),
    ],
)
def test_bad_arguments_are_named(
    more: list[str], message: str, checkpoint: Path, manifest: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        probe.main(line(checkpoint, manifest, tmp_path / "p.json", *more))
    assert not list(tmp_path.iterdir())
