"""From films to a sampled checkpoint, by the commands of docs/curation.md as they are written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT, Command, commands
from films import RATE, make_film

from shared.data.media import probe, read_audio, write_audio

#: What makes them short, and fits them to the toy world's films; nothing else is changed.
FEW = {
    "build_dataset": ["split.held_out=0", "shots.detector=none", "shots.most_seconds=2"],
    "train_ccl": ["train.steps=4", "validation.every=1000"],
    "train_mtv": [*(f"stages.{n}.steps=1" for n in range(5)), "validation.every=1000"],
}


def chain() -> list[Command]:
    """The commands of the section, in order."""
    page = (ROOT / "docs/curation.md").read_text(encoding="utf-8")
    return commands(page[page.index("## Training on it") :].partition("\n## ")[0])


def words(command: Command, folder: Path) -> list[str]:
    """Words of a command below `folder`, short, in this Python."""
    assert command.script is not None
    program = Path(sys.executable).with_name(command.words[0])
    said = [word.replace("configs/data/demix.yaml", "configs/data/demix_puppets.yaml") for word in command.words[1:]]
    for name in ("my_films", "my_sound.wav", "data/", "outputs/"):
        said = [word.replace(name, f"{folder}/{name}") if "configs/" not in word else word for word in said]
    more = [part for override in FEW.get(command.script, []) for part in ("--set", override)]
    return [str(program), *said, *more]


@pytest.mark.slow
def test_films_become_a_checkpoint_that_samples(tmp_path: Path) -> None:
    (tmp_path / "my_films").mkdir()
    for seed in (5, 6):  # together they have clips of all five subsets
        make_film(tmp_path / f"my_films/{seed}.mp4", seed, 6)
    sound = read_audio(tmp_path / "my_films/5.mp4", RATE, True, 0, 2)
    write_audio(tmp_path / "my_sound.wav", sound, RATE)
    for command in chain():
        done = subprocess.run(words(command, tmp_path), cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command.words)}\n{done.stderr[-3000:]}"
    index = json.loads((tmp_path / "data/footage/latents/index.json").read_text())
    assert index["records"] >= 6 and index["failed"] == []
    assert (tmp_path / "outputs/footage_own/5_environmental_ambience/checkpoint").is_dir()
    made = probe(tmp_path / "outputs/footage.mp4")
    assert made.has_audio and made.width == 64
