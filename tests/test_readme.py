"""The README's own commands, in its order, on small models that the other libraries saved."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from commands import ROOT, Command, commands
from diffusers import UniPCMultistepScheduler
from PIL import Image
from public import MODEL, save_small_parts, small_wan

from shared.data.media import probe

#: Sections whose commands run elsewhere: films take tests/scripts/test_footage.py.
ELSEWHERE = ("### Bring your own footage",)
#: Words of a script's commands and what stands here in their place: the same, smaller.
SMALLER = {"make_puppets": {"64": "12"}, "encode": {"352": "32", "640": "32"}, "evaluate": {"24": "2"}}
#: What else makes a command short, by its script and, where that is not enough, by a word of it.
FASTER = {
    ("train_ccl", "puppets_tiny.yaml"): ["train.steps=2", "validation.clips=1", "validation.steps=1"],
    ("train_ccl", "ccl_wan1.3b_joint.yaml"): ["train.steps=2", "data.size=[32, 32]"],
    ("sample_joint", "outputs/mine/checkpoint"): ["--steps", "2"],
    ("sample_joint", "outputs/wan_joint/checkpoint"): ["--steps", "2", "--size", "32", "--duration", "0.5"],
    ("evaluate", ""): ["--steps", "2", "--tasks", "t2av"],
}


def said() -> list[Command]:
    """The commands of the page that run a script, without the sections that run elsewhere."""
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    for title in ELSEWHERE:
        before, rest = page.split(title)
        page = before + rest[rest.index("\n##") :]
    return [command for command in commands(page) if command.script is not None]


def words(command: Command) -> list[str]:
    """Words of a command, short, with the programs of this Python."""
    assert command.script is not None
    program = Path(sys.executable).with_name(command.words[0])
    line = [SMALLER.get(command.script, {}).get(word, word) for word in command.words[1:]]
    if command.words[0] == "deepspeed":
        line = [("2" if before == "--num_gpus" else word) for before, word in zip(["", *line], line, strict=False)]
    for (script, named), more in FASTER.items():
        if command.script == script and any(named in word for word in line):
            line += [part for word in more for part in ("--set", word)] if script == "train_ccl" else more
    return [str(program), *line]


def public_models(folder: Path) -> None:
    """What the page's two `hf download` bring, small and random: Wan's pipeline, LTX-2's autoencoder and vocoder."""
    wan, ltx = folder / "Wan2.1-T2V-1.3B-Diffusers", folder / "LTX-2"
    save_small_parts(wan, ltx)
    flow = UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0)
    flow.save_pretrained(wan / "scheduler")
    small_wan().save_pretrained(wan / "transformer")


def test_the_page_has_every_chain() -> None:
    scripts = [command.script for command in said()]
    wan = ["convert", "encode", "plan", "train_ccl", "train_ccl", "sample_joint"]
    assert any(scripts[start : start + len(wan)] == wan for start in range(len(scripts)))
    assert {"make_puppets", "sample_mtv", "check_data", "demix", "evaluate", "score", "show_clip"} <= set(scripts)


@pytest.mark.slow
def test_the_commands_of_the_page_run_as_they_stand(tmp_path: Path) -> None:
    """But for sizes and steps; from the toy world to a joint model on a Wan folder."""
    for name in ("assets", "scripts"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    small = MODEL | {"audio": MODEL["audio"] | {"in_channels": 8}}  # of the autoencoder below
    (tmp_path / "configs/model/wan2.1-1.3b.yaml").write_text(yaml.safe_dump(small))
    public_models(tmp_path / "models")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for command in said():
        line = words(command)
        done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(line)}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}"
        writes = [] if command.script == "plan" or "--dry-run" in line else command.writes
        missing = [path for path in writes if not (tmp_path / path).exists()]
        assert not missing, f"{' '.join(line)} wrote no {missing}"
    out = tmp_path / "outputs"
    for name in ("both", "a2v", "v2a", "mine", "driven", "demixed", "wan"):
        assert probe(out / f"{name}.mp4").has_audio, name
    assert not probe(out / "picture.mp4").has_audio
    with Image.open(out / "both.gif") as moving:
        assert getattr(moving, "n_frames", 1) > 1
    with open(out / "wan_joint/losses.csv") as file:
        assert {row["step"] for row in csv.DictReader(file)} == {"2"}
    assert "t2av" in json.loads((out / "report/metrics.json").read_text())["tasks"]
    assert json.loads((out / "score/metrics.json").read_text())
