"""Numbers of two runs of the scorer: compared where they were measured in the same way, or where that is asked for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.utils.errors import UserError
from shared.utils.files import read_json

ADVICE = "give a metrics.json of score.py"


def read_against(file: Path, names: Sequence[str]) -> dict[str, Any]:
    """Read metrics.json of another run. UserError unless it is one and has one of the metrics `names` at least."""
    found = read_json(file, f"--against {file}", ADVICE)
    metrics = found.get("metrics")
    if not isinstance(metrics, dict) or not all("preprocessing_hash" in one for one in metrics.values()):
        raise UserError(f"--against {file}: is of another program; {ADVICE}")
    if not set(names) & set(metrics):
        raise UserError(f"--against {file}: has none of {', '.join(names)}; it has {', '.join(metrics)}")
    return {"file": str(file), **found}


def check_same(facts: Mapping[str, Any], other: Mapping[str, Any], asked: Collection[str]) -> None:
    """Raise UserError, before anything is measured, for a metric whose number was made in another way there, unless it
    is among those `asked` for by name."""
    for name, fact in facts.items():
        if name in asked or (there := other["metrics"].get(name)) is None:
            continue
        if why := unlike(fact, there):
            told = f"--against {other['file']}: {name} was measured in another way ({why})"
            raise UserError(f"{told}; measure both alike, or give --compare-anyway {name}")


def unlike(fact: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    """Say what moves one number and not the other: "fps: 8 here, 4 there"; "" where nothing does."""
    if fact["preprocessing_hash"] != there["preprocessing_hash"]:
        here, other = fact["preprocessing"], there["preprocessing"]
        changed = [key for key in {**here, **other} if here.get(key) != other.get(key)]
        return ", ".join(f"{key}: {here.get(key)} here, {other.get(key)} there" for key in changed)
    return "other weights" if fact["weights"] != there["weights"] else ""


def counterpart(name: str, sets: Mapping[str, Any]) -> str | None:
    """Find the set there that is compared with the set `name` here: that of its name, or the only one."""
    return name if name in sets else next(iter(sets)) if len(sets) == 1 else None


def set_difference(new: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """Difference of two distances of sets, each with an interval of its own, as if nothing were common to both."""
    told = {
        "new": new["value"],
        "old": old["value"],
        "difference": None,
        "interval": None,
        "n": min(new["n"], old["n"]),
    }
    if new["value"] is None or old["value"] is None:
        return told
    apart, spread = new["value"] - old["value"], None
    if new["interval"] and old["interval"]:
        half = sum(((one["interval"][1] - one["interval"][0]) / 2) ** 2 for one in (new, old)) ** 0.5
        spread = [apart - half, apart + half]
    return told | {"difference": apart, "interval": spread}
