"""The doctor's page: a table of clips, the worst first (docs/data.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shared.evaluation.html import render

WORST_FIRST = ("refuse", "warn", "ok")


def doctor_page(summary: str, findings: Sequence[Mapping[str, Any]]) -> str:
    """HTML; `summary` is of several lines, a finding has id, verdict, refused, warnings (texts) and facts by name."""
    facts = list(dict.fromkeys(name for finding in findings for name in finding["facts"]))
    ordered = sorted(findings, key=lambda finding: WORST_FIRST.index(finding["verdict"]))
    rows = [
        [
            finding["id"],
            finding["verdict"],
            "; ".join([*finding["refused"], *finding["warnings"]]),
            *(finding["facts"].get(name, "") for name in facts),
        ]
        for finding in ordered
    ]
    classes = [finding["verdict"] for finding in ordered]
    head = ["clip", "verdict", "why", *facts]
    return render("doctor.html.j2", summary=summary, head=head, rows=rows, classes=classes)
