"""Compare two recordings (record.py): one of the code before a change of structure, one of the code after it.

    python tests/equality/compare.py BEFORE AFTER [--only train,shards,mtv,zero2,samples,ablation]

Samples and metrics must be equal to the bit. Training too, or within 1e-6 at step 1 and 1e-4 later: where parameters
come in another order, the norms of gradients are summed in another one. `parameters.json` (regular expressions, old
name -> new) and `metrics.json` (old key -> new) say what is called otherwise. Exits with 1 where anything differs more.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file

RUNS = ("train", "shards", "mtv", "zero2")
PARTS = (*RUNS, "samples", "ablation")
FIRST, LATER = 1e-6, 1e-4
#: Of a result, what is no result: when, where and how long it was made.
#: Or what a run after was told, to be as one before (record.py, `NEW_SETTINGS`).
ABOUT = {"commit", "machine", "seconds", "data.latents_dtype"}
#: A sample's picture or sound that was given: it is copied now, and x264 encodes frames otherwise in some runs.
GIVEN = {("v2a", "video"), ("a2v", "audio"), ("mix", "audio")}
HERE = Path(__file__).parent
#: An item, its largest difference (infinite: not comparable) and what is allowed.
Found = tuple[str, float, float]


def differences(before: Path, after: Path, part: str) -> Iterator[Found]:
    """Every comparison of one part of two recordings."""
    if part in RUNS:
        yield from losses(before / part, after / part)
        yield from weights(before / part, after / part)
    elif part == "samples":
        yield from samples(before / part, after / part)
    else:
        yield from metrics(before / part / "results", after / part / "results")


def losses(before: Path, after: Path) -> Iterator[Found]:
    """losses.csv by step; the rows must be the same."""
    ours, theirs = (_rows(folder / "losses.csv") for folder in (before, after))
    if ours.keys() != theirs.keys():
        yield f"{before.name}/losses.csv: its rows", np.inf, 0.0
        return
    for step in sorted({int(key[0]) for key in ours}):
        apart = max(abs(ours[key] - theirs[key]) for key in ours if int(key[0]) == step)
        yield f"{before.name}/losses.csv: step {step}", apart, FIRST if step == 1 else LATER


def _rows(file: Path) -> dict[tuple[str, ...], float]:
    """All columns but the loss -> the loss."""
    with open(file, newline="") as lines:
        rows = list(csv.DictReader(lines))
    return {tuple(value for name, value in row.items() if name != "loss"): float(row["loss"]) for row in rows}


def weights(before: Path, after: Path) -> Iterator[Found]:
    """The exported weights of each component that learns."""
    table = json.loads((HERE / "parameters.json").read_text())
    for component in ("transformer", "control"):
        folders = [run / "checkpoint" / component for run in (before, after)]
        if not any(folder.is_dir() for folder in folders):
            continue
        ours, theirs = (
            {name: value for file in sorted(folder.glob("*.safetensors")) for name, value in load_file(file).items()}
            for folder in folders
        )
        ours = {_renamed(name, table): value for name, value in ours.items()}
        label = f"{before.name}/{component}: {len(ours)} tensors"
        if ours.keys() != theirs.keys():
            strange = sorted(ours.keys() ^ theirs.keys())
            yield f"{label}, {len(strange)} without a counterpart, such as {strange[0]}", np.inf, LATER
        else:
            yield label, max(_apart(ours[name].float().numpy(), theirs[name].float().numpy()) for name in ours), LATER


def _renamed(name: str, table: dict[str, str]) -> str:
    for old, new in table.items():
        name = re.sub(old, new, name)
    return name


def samples(before: Path, after: Path) -> Iterator[Found]:
    """Decoded frames and sound of every file."""
    for file in sorted(before.glob("*.mp4")):
        for kind in ("video", "audio"):
            if (file.stem, kind) in GIVEN:
                continue
            ours, theirs = (_decoded(folder / file.name, kind) for folder in (before, after))
            yield f"samples/{file.name}: {kind} {'x'.join(map(str, ours.shape))}", _apart(ours, theirs), 0.0


def _decoded(file: Path, kind: str) -> NDArray[Any]:
    """[T, H, W, 3] frames, or [samples, channels] of sound; empty where there are none."""
    if not file.is_file():
        return np.empty(0)
    with av.open(str(file)) as container:
        if not getattr(container.streams, kind):
            return np.empty(0)
        if kind == "video":
            return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
        return np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1).T


def metrics(before: Path, after: Path) -> Iterator[Found]:
    """The values of every result; texts must be the same."""
    table = json.loads((HERE / "metrics.json").read_text())
    for file in sorted(before.glob("*.json")):
        ours = dict(_leaves(json.loads(file.read_text()), table))
        there = after / file.name
        theirs = dict(_leaves(json.loads(there.read_text()), {})) if there.is_file() else {}
        label = f"ablation/{file.name}: {len(ours)} values"
        if ours.keys() != theirs.keys():
            strange = sorted(ours.keys() ^ theirs.keys())
            yield f"{label}, {len(strange)} without a counterpart, such as {strange[0]}", np.inf, 0.0
        else:
            yield label, max(_apart(np.array(ours[key]), np.array(theirs[key])) for key in ours), 0.0


def _leaves(tree: Any, table: dict[str, str], path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with the keys that lead to it, the old ones under their new names."""
    if isinstance(tree, list):
        tree = dict(enumerate(tree))
    if not isinstance(tree, dict):
        yield path, tree
        return
    for key, value in tree.items():
        if key not in ABOUT:
            yield from _leaves(value, table, f"{path}/{table.get(str(key), key)}")


def _apart(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """The largest difference; infinite where shapes, types or texts differ, or a value is no number in one alone."""
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return np.inf
    if ours.tobytes() == theirs.tobytes() if ours.dtype != object else (ours == theirs).all():
        return 0.0
    if not np.issubdtype(ours.dtype, np.number):
        return np.inf
    apart = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
    return float(np.nan_to_num(apart, nan=np.inf).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--only", default=",".join(PARTS))
    options = parser.parse_args()
    failed = False
    for part in options.only.split(","):
        for item, apart, allowed in differences(options.before, options.after, part):
            says = "equal to the bit" if apart == 0 else f"largest difference {apart:.3g}, allowed {allowed:g}"
            print(f"{item}: {says}{'' if apart <= allowed else '  <- FAILS'}")
            failed |= apart > allowed
    sys.exit(failed)


if __name__ == "__main__":
    main()
