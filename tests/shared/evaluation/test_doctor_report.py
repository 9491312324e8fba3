"""The doctor's report: counts, spreads, and a page that shows the worst clips first and no markup of theirs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pages import Page

from shared.data.doctor import Finding
from shared.evaluation.doctor_report import page_content, summary, write_report
from shared.utils.errors import UserError

FINDINGS = [
    Finding("a", {"seconds": 2.0, "level_dbfs": -20.0}),
    Finding("<b>", {"seconds": 3.0, "level_dbfs": float("-inf"), "silent": True}, ["is silent"], ["is short"]),
    Finding("c", {"seconds": 5.0}, warnings=["is long"]),
]


def test_the_summary_counts_verdicts_and_tells_spreads() -> None:
    assert summary(FINDINGS) == [
        "3 clips: 1 ok, 1 warn, 1 refuse",
        "seconds: 2 to 5, median 3",
        "level (dBFS): -20 to -20, median -20",
    ]


def test_the_page_has_the_worst_first_and_what_is_not_known_empty() -> None:
    content = page_content(FINDINGS)
    assert content["head"] == ["clip", "verdict", "why", "seconds", "level (dBFS)", "silent"]
    assert [row[:3] for row in content["rows"]] == [
        ["<b>", "refuse", "is silent; is short"],
        ["c", "warn", "is long"],
        ["a", "ok", ""],
    ]
    assert (
        content["rows"][1][3:] == ["5", "", ""]
        and content["rows"][0][3:] == ["3", "none", "yes"]
        and content["classes"] == ["refuse", "warn", "ok"]
    )


def test_the_page_has_words_for_people() -> None:
    """No underscore, no True or False, and no braces, whatever the facts are."""
    facts = {"fps_true": 29.97, "variable_fps": False, "audio_tracks": ["1 (aac)", "2 (mp3)"], "speech_share": 0.7784}
    facts |= {"tracks": {"speech1": 2.0, "music": 1.5}, "video_latent_std": 1.02, "caption_words": 12}
    content = page_content([Finding("a", facts)])
    assert content["head"][3:] == [
        "frames a second, measured", "variable frame rate", "sound tracks of the file", "speech", "tracks",
        "video latent std", "words of the caption",
    ]  # fmt: skip
    assert content["rows"][0][3:] == [
        "29.97",
        "no",
        "1 (aac), 2 (mp3)",
        "77.8 %",
        "speech1 2 s, music 1.5 s",
        "1.02",
        "12",
    ]


def test_reports_are_written_by_their_names(tmp_path: Path) -> None:
    write_report(tmp_path / "clips.jsonl", FINDINGS)
    lines = [json.loads(line) for line in (tmp_path / "clips.jsonl").read_text().splitlines()]
    assert [line["verdict"] for line in lines] == ["ok", "refuse", "warn"] and lines[1]["facts"]["level_dbfs"] is None
    write_report(tmp_path / "clips.html", FINDINGS)
    page = Page((tmp_path / "clips.html").read_text())
    assert page.texts["td"][:3] == ["<b>", "refuse", "is silent; is short"] and len(page.attributes["td"]) == 18
    assert [row.get("class") for row in page.attributes["tr"]] == [None, "refuse", "warn", "ok"]
    assert page.texts["p"] == summary(FINDINGS)
    with pytest.raises(UserError, match=r"--report .*cannot be written"):
        write_report(tmp_path / "nowhere" / "clips.html", FINDINGS)
