"""The evaluation's page and what it prints, from numbers that are made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pages import Page

from shared.evaluation.report import summary, write_report

SCORE = {"value": 0.5, "ceiling": 0.9, "floor": None, "headline": 1.25, "headline_interval": [0.5, 2.0], "clips": 7}
CONFIG: dict[str, Any] = {
    "checkpoint": "a<b", "suite": "puppets", "level": "simple", "clips": 8, "held_out_seed": 9, "seed": 0, "steps": 4,
    "no_context": True, "guidance": {"form": "dual", "text_scale": [2.0, 2.0], "context_scale": [3.0, 4.0]},
    "track_guidance": {"text": 2.0, "speech": 3.0, "effects": 1.0, "music": 1.5},
}  # fmt: skip


def metrics() -> dict[str, Any]:
    result = {
        "scores": {"event_f1": SCORE, "colour": SCORE | {"clips": 0}},
        "lag_ms": {"all": 12.4, "first third": None},
        "fixed_times_f1": 0.3,
        "paired": {"base": "t2av", "scores": {"event_f1": {"difference": -0.1, "interval": [-0.2, 0.05]}}},
    }
    return {"config": CONFIG, "tasks": {"t2av": result}}


def test_the_page_shows_what_counts(tmp_path: Path) -> None:
    write_report(tmp_path / "index.html", metrics(), [])
    text = (tmp_path / "index.html").read_text()
    page = Page(text)
    assert page.texts["title"] == ["a<b on puppets simple"]
    assert page.texts["td"] == ["0.500", "0.900", "\N{EN DASH}", "1.250", "7"]  # a score without clips is left out
    assert "[0.50, 2.00]" in page.texts["small"] and "[-0.200, +0.050]" in page.texts["small"]
    assert page.attributes["i"][0]["style"] == "width:100%"
    assert any("(fixed times: 0.30)" in small for small in page.texts["small"])
    assert {"dual, text 2, context 3 (video), 4 (sound)", "text 2, speech 3, effects 1, music 1.5"} <= set(
        page.texts["b"]
    )
    assert any("12 ms after" in told and "first third \N{EN DASH}" in told for told in page.texts["p"])
    assert "Minus t2av, clip by clip:" in text and "event f1 -0.100" in text and "0m" in text


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
