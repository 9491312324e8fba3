"""What an evaluation prints."""

from __future__ import annotations

from shared.evaluation.summary import summary


def test_scores_that_count_and_differences_are_printed() -> None:
    score = {"value": 0.5, "ceiling": 1.0, "floor": 0.25, "headline": 1 / 3, "clips": 4}
    change = {"event_f1": {"difference": -0.25, "interval": [-0.5, 0.125], "clips": 3}}
    tasks = {
        "mtv": {"clips": 4, "scores": {"event_f1": score, "speaker": score | {"clips": 0}}},
        "mtv:dsp": {
            "clips": 4,
            "scores": {"colour": score | {"floor": None}},
            "paired": {"base": "mtv", "scores": change},
        },
    }
    lines = summary({"tasks": tasks, "against": {"file": "old.json", "tasks": {"mtv": change}}}).splitlines()
    assert [" ".join(line.split()) for line in lines[1:]] == [
        "mtv (4 clips)",
        "event f1 0.500 1.000 0.250 0.333",
        "mtv:dsp (4 clips)",
        "colour 0.500 1.000 nan 0.333",
        "minus mtv, clip by clip:",
        "event f1 -0.250 [-0.500, +0.125] 3 clips",
        "minus old.json, clip by clip:",
        "mtv",
        "event f1 -0.250 [-0.500, +0.125] 3 clips",
    ]
