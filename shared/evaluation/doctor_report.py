"""What the doctor of a data set found, as lines of text, as JSON lines, and as a page."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from shared.data.doctor import Finding, speech_measure
from shared.evaluation.html import render
from shared.utils.errors import UserError
from shared.utils.files import write_atomically

VERDICTS = ("ok", "warn", "refuse")
SPREADS = {"seconds": "s", "fps_true": "fps", "level_dbfs": "dBFS", "speech_share": ""}
"""Facts whose spread over the clips is told, and their units; of speech, what it is measured by."""


def summary(findings: Sequence[Finding]) -> list[str]:
    """Tell about all clips in a few lines."""
    verdicts = [finding.verdict for finding in findings]
    lines = [f"{len(findings)} clips: " + ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in VERDICTS)]
    for name, unit in SPREADS.items():
        values = [f.facts[name] for f in findings if f.facts.get(name) is not None and f.facts[name] > -1e9]
        if values:
            spread = f"{min(values):g} to {max(values):g}, median {median(values):g}"
            lines.append(f"{name.replace('_', ' ')}: {spread} ({unit or speech_measure()})")
    return lines


def write_report(path: Path, findings: Sequence[Finding]) -> None:
    """Write FILE.html to look at, or FILE.jsonl with a line per clip. Raises UserError if it cannot be written."""
    if path.suffix == ".html":
        text = render("doctor.html.j2", **page_content(findings))
    else:
        text = "".join(json.dumps(finding.as_dict(), ensure_ascii=False) + "\n" for finding in findings)
    try:
        write_atomically(path, text)
    except OSError as error:
        raise UserError(f"--report {path}: cannot be written ({error.strerror})") from error


def page_content(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return what the page shows: lines of the summary, and a table with a row per clip, the worst first."""
    columns = list(dict.fromkeys(name for finding in findings for name in finding.facts))
    worst_first = sorted(findings, key=lambda finding: -VERDICTS.index(finding.verdict))
    rows = [[f.id, f.verdict, "; ".join(f.reasons), *(f.facts.get(name, "") for name in columns)] for f in worst_first]
    classes = [finding.verdict for finding in worst_first]
    head = ["clip", "verdict", "why", *columns]
    return {"summary": summary(findings), "head": head, "rows": rows, "classes": classes}
