"""What an evaluation prints of its metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def summary(metrics: Mapping[str, Any]) -> str:
    """Headlines as a small table; below it, paired differences."""
    lines = [f"{'':20s}{'score':>8s}{'ceiling':>9s}{'floor':>8s}{'headline':>10s}"]
    for task, result in metrics["tasks"].items():
        lines.append(f"{task} ({result['clips']} clips)")
        for name, values in result["scores"].items():
            if values["clips"]:
                numbers = [values[key] for key in ("value", "ceiling", "floor", "headline")]
                cells = [math.nan if number is None else number for number in numbers]
                lines.append("  {:18s}{:8.3f}{:9.3f}{:8.3f}{:10.3f}".format(name.replace("_", " "), *cells))
        if "paired" in result:
            lines.append(f"  minus {result['paired']['base']}, clip by clip:")
            lines += differences(result["paired"]["scores"])
    if "against" in metrics:
        lines.append(f"minus {metrics['against']['file']}, clip by clip:")
        for task, scores in metrics["against"]["tasks"].items():
            lines += [task, *differences(scores)]
    return "\n".join(lines)


def differences(scores: Mapping[str, Any]) -> list[str]:
    """Line per score: the difference, its interval, and the clips that count in both."""
    return [
        "  {:18s}{:+8.3f}  [{:+.3f}, {:+.3f}]  {} clips".format(
            name.replace("_", " "), values["difference"], *values["interval"], values["clips"]
        )
        for name, values in scores.items()
    ]
