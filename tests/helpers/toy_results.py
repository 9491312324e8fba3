"""Results of an ablation that are made up."""

from __future__ import annotations

from typing import Any

PLAN: dict[str, Any] = {
    "name": "toy", "clips": {"train": {"seed": 1, "clips": 4}}, "train_clips": ["train"], "base": "base.yaml",
    "seeds": [0, 1, 2], "reference": "ccl",
    "variants": {
        "ccl": {"label": "CCL"}, "bad": {"question": "a|b?", "overrides": {"model.partition": False}},
        "late": {"overrides": {"tasks": {"t2av": 1.0}}}, "alias": {"same_as": "bad"},
    },
    "endpoints": [{"name": "score", "path": "metrics.score", "better": "higher", "digits": 2}],
    "secondary": [{"name": "lag", "path": "metrics.lag", "digits": 0}],
    "guidance": {
        "variant": "ccl", "seeds": [0], "settings": [{"form": "none"}, {"form": "text", "text_scale": 2.5}],
        "adherence": [{"name": "colour", "path": "metrics.colour"}], "sync": [{"name": "f1", "path": "metrics.f1"}],
    },
}  # fmt: skip


def measured(value: float, **bounds: float) -> dict[str, Any]:
    return {"value": value, "interval": None, "clips": None} | bounds


def run(variant: str, seed: int, score: float) -> dict[str, Any]:
    curve = {"step": [10, 20, 30], "loss": [1.0, 0.5, 0.4 - score / 10]}
    return {
        "values": {"score": measured(score, floor=0.1, ceiling=0.9), "lag": measured(100.0 * seed)},
        "seconds": {"train": 60.0, "evaluate": 30.0}, "commit": "abc", "curve": {"t2av video": curve},
        "machine": {"cores": 2, "torch": "2.13", "gpus": []},
        "parameters": 2_500_000, "cross_modal_parameters": 950, "flops": None,
    }  # fmt: skip
