"""The doctor's page."""

from __future__ import annotations

from pages import Page

from shared.evaluation.doctor_page import doctor_page


def test_the_doctors_page_has_the_worst_first() -> None:
    clips = [
        {"id": "a", "verdict": "ok", "refused": [], "warnings": [], "facts": {"fps": 8.0}},
        {"id": "b", "verdict": "warn", "refused": [], "warnings": ["quiet"], "facts": {"level": float("-inf")}},
        {"id": "<c>", "verdict": "refuse", "refused": ["broken"], "warnings": ["quiet"], "facts": {}},
    ]
    page = Page(doctor_page("3 clips: 1 ok\nfps: 8", clips))
    assert page.texts["th"] == ["clip", "verdict", "why", "fps", "level"]
    assert page.texts["td"] == ["<c>", "refuse", "broken; quiet", "b", "warn", "quiet", "-inf", "a", "ok", "8.0"]
    assert [row.get("class") for row in page.attributes["tr"]] == [None, "refuse", "warn", "ok"]
    assert page.texts["p"] == ["3 clips: 1 ok", "fps: 8"]
