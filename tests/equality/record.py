"""Record what a checkout trains, samples and measures, so that two checkouts can be compared (compare.py).

    python tests/equality/record.py --checkout DIR --output OUT [--only PARTS] [--old-order] [--clips BEFORE]

DIR may be a checkout from before the house was rebuilt, or from after it; `OLD` and `NEW` have their names. PARTS are
train, shards, mtv, zero2, samples, ablation: all, unless named. One thread, so that sums are made in one order. What is
there already is not made again. x264 encodes the same pictures otherwise in some runs, about one clip in thirty: with
--clips those of an earlier recording are taken.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

PROMPT = (
    "One person conversation. Person1: a woman in a red shirt on the left. Person1 is speaking. "
    "Scene description: a big yellow bell rings twice under a warm bright light."
)
PARTS = ("train", "shards", "mtv", "zero2", "samples", "ablation")
OLD = {
    "make_clips": "make_stage.py",
    "clips_out": "--out",
    "checkpoint": "assets/stage",
    "tiny": "configs/train/stage_tiny.yaml",
    "control": "configs/model/stage_control.yaml",
}
NEW = {
    "make_clips": "make_puppets.py",
    "clips_out": "--output",
    "checkpoint": "assets/puppets",
    "tiny": "configs/train/puppets_tiny.yaml",
    "control": "configs/model/puppets_control.yaml",
}
#: Settings of the runs that are written otherwise in a checkout from after.
NEW_SETTINGS = {"data.latents_dtype": "float16"}


class Recorder:
    """Runs commands in one checkout and keeps what they made under `out`."""

    def __init__(self, checkout: Path, out: Path, old_order: bool) -> None:
        self.checkout, self.out = checkout.resolve(), out.resolve()
        #: With `old_order` parameters come as they did before their names changed (old_order/sitecustomize.py).
        self.paths = [str(self.checkout), *([str(Path(__file__).parent / "old_order")] if old_order else [])]
        self.old = (checkout / "scripts" / OLD["make_clips"]).is_file()
        self.names = OLD if self.old else NEW
        self.times: dict[str, float] = {}

    def take_clips(self, recording: Path) -> None:
        """The clips of another recording, where the scripts of this checkout look for theirs."""
        for folder in ("clips_simple", "ablation/clips"):
            if (recording / folder).is_dir() and not (self.out / folder).is_dir():
                shutil.copytree(recording / folder, self.out / folder)
        for old in [] if self.old else (self.out / "ablation/clips").glob("*/stage"):
            old.rename(old.with_name("puppets"))

    def run(self, name: str, *command: str) -> None:
        """Run a script of the checkout; its time and the largest memory of its processes are kept beside `name`."""
        start = time.monotonic()
        environment = {
            **os.environ, "PYTHONPATH": os.pathsep.join(self.paths), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
        }  # fmt: skip
        with open(self.out / f"{name}.log", "w") as log:
            subprocess.run(command, cwd=self.checkout, env=environment, check=True, stdout=log, stderr=log)
        print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)

    def script(self, name: str, script: str, *arguments: object) -> None:
        self.run(name, sys.executable, f"scripts/{script}", *map(str, arguments))

    def clips(self, level: str, count: int, seed: int) -> Path:
        folder = self.out / f"clips_{level}"
        if not (folder / "manifest.jsonl").is_file():
            make, to = self.names["make_clips"], self.names["clips_out"]
            self.script(f"clips_{level}", make, "--clips", count, to, folder, "--seed", seed, "--level", level)
        return folder / "manifest.jsonl"

    def config(self, name: str, settings: dict[str, Any]) -> Path:
        """The tiny run's configuration with these settings in the place of its own."""
        config = yaml.safe_load((self.checkout / self.names["tiny"]).read_text())
        if not self.old:
            settings = settings | NEW_SETTINGS
        for key, value in settings.items():
            *path, last = key.split(".")
            place = config
            for part in path:
                place = place.setdefault(part, {})
            if value is None:
                place.pop(last, None)
            else:
                place[last] = value
        file = self.out / f"{name}.yaml"
        file.write_text(yaml.safe_dump(config))
        return file

    def trained(self, name: str, settings: dict[str, Any], *launcher: str) -> Path:
        """OUTPUT of 20 steps of the tiny run."""
        output = self.out / name
        common = {"output": str(output), "train.steps": 20, "train.checkpoint_every": 20, "optimizer.warmup": 5}
        config = self.config(name, common | {"validation.clips": 0} | settings)
        if not (output / "checkpoint" / "model_index.json").is_file():
            shutil.rmtree(output, ignore_errors=True)
            if launcher:
                self.run(name, *launcher, "scripts/train_ccl.py", "--config", str(config))
            else:
                self.script(name, "train_ccl.py", "--config", config)
        return output

    def train(self) -> None:
        """(a) 20 steps from a manifest."""
        self.trained("train", {"data.manifest": str(self.clips("simple", 24, 5))})

    def shards(self) -> None:
        """(a) 20 steps from shards."""
        self.train()
        made = self.out / "latents"
        if not (made / "index.json").is_file():
            shutil.rmtree(made, ignore_errors=True)
            self.script(
                "encode", "encode.py", "--manifest", self.clips("simple", 24, 5), "--output", made,
                "--checkpoint", self.out / "train" / "checkpoint",
            )  # fmt: skip
        self.trained(
            "shards",
            {"data.manifest": None, "data.shards": str(made), "codecs": str(self.out / "train" / "checkpoint")},
        )

    def mtv(self) -> None:
        """(a) 20 steps with task mtv."""
        tasks = {"mtv": 0.6, "t2av": 0.4}
        control = str(self.checkout / self.names["control"])
        settings = {"control": control, "tasks": tasks, "phases": None, "keyframes": 0.2}
        self.trained("mtv", {"data.manifest": str(self.clips("simple", 24, 5)), **settings})

    def zero2(self) -> None:
        """(c) ZeRO-2 on two processes."""
        torchrun = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29611")
        deepspeed = str(self.checkout / "configs/deepspeed/zero2.json")
        self.trained("zero2", {"data.manifest": str(self.clips("simple", 24, 5)), "deepspeed": deepspeed}, *torchrun)

    def samples(self) -> None:
        """(b) Six samples of the shipped checkpoint: frames and sound as the files hold them."""
        folder = self.clips("simple", 24, 5).parent
        truth = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
        clip = next(one for one in truth if {"speech1", "effects", "music"} <= one["tracks"].keys())
        tracks = [part for name in ("speech1", "effects", "music")
                  for part in (f"--{name.removesuffix('1')}", folder / clip["tracks"][name])]  # fmt: skip
        video, common = folder / clip["video"], ("--prompt", PROMPT, "--seed", 1, "--steps", 8)
        joined = self.out / "long"
        joined.mkdir(exist_ok=True)
        long_tracks = self.long_tracks(joined, [folder / one["tracks"]["effects"] for one in truth[:3]])
        runs: dict[str, tuple[str, tuple[object, ...]]] = {
            "t2av": ("sample_joint.py", ()),
            "a2v": ("sample_joint.py", ("--audio", video)),
            "v2a": ("sample_joint.py", ("--video", video)),
            "tracks": ("sample_mtv.py", tuple(tracks)),
            "mix": ("sample_mtv.py", ("--audio", video, "--demixer", "dsp")),
            "long_video": ("sample_mtv.py", ("--effects", long_tracks)),
        }
        for name, (script, arguments) in runs.items():
            file = self.out / "samples" / f"{name}.mp4"
            file.parent.mkdir(exist_ok=True)
            if not file.is_file():
                self.script(f"sample_{name}", script, *common, *arguments, "--output", file)

    def long_tracks(self, folder: Path, parts: list[Path]) -> Path:
        """One wav of several, end to end."""
        import numpy as np
        import soundfile

        sounds = [soundfile.read(part, dtype="int16") for part in parts]
        file = folder / "effects.wav"
        soundfile.write(file, np.concatenate([sound for sound, _ in sounds]), sounds[0][1])
        return file

    def ablation(self) -> None:
        """(d) One run of the smallest ablation."""
        output = self.out / "ablation"
        plan = self.checkout / "configs/ablation/smoke.yaml"
        if not self.old:
            settings = yaml.safe_load(plan.read_text())
            for overrides in (settings["start"]["overrides"], settings["train_overrides"]):
                overrides |= NEW_SETTINGS
            plan = self.out / "smoke.yaml"
            plan.write_text(yaml.safe_dump(settings, sort_keys=False))
        if not list((output / "results").glob("*.json")):
            self.script(
                "ablation", "ablate.py", "--plan", plan, "--only", "ccl", "--seeds", "0", "--output", output,
            )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--old-order", action="store_true", help="sum gradients' norms in the order of before")
    parser.add_argument("--clips", type=Path, metavar="BEFORE", help="a recording whose clips are used")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    recorder = Recorder(options.checkout, options.output, options.old_order)
    if options.clips is not None:
        recorder.take_clips(options.clips)
    for part in options.only.split(","):
        getattr(recorder, part)()


if __name__ == "__main__":
    main()
