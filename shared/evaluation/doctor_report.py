"""What the doctor of a data set found, as lines of text, as JSON lines, and as a page."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from shared.data.doctor import Finding, speech_measure
from shared.evaluation.html import page
from shared.utils.errors import UserError
from shared.utils.files import write_atomically

VERDICTS = ("ok", "warn", "refuse")
SPREADS = {"seconds": "s", "fps_true": "fps", "level_dbfs": "dBFS", "speech_share": ""}
"""Facts whose spread over the clips is told, and their units; of speech, what it is measured by."""
STYLE = (
    "body{font:14px sans-serif;margin:2em}table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:3px 6px;"
    "text-align:left;vertical-align:top}.refuse{background:#fbb}.warn{background:#fec}.ok{background:#dfd}"
)


def summary(findings: Sequence[Finding]) -> list[str]:
    """A few lines about all clips."""
    counts = {verdict: sum(finding.verdict == verdict for finding in findings) for verdict in VERDICTS}
    lines = [f"{len(findings)} clips: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items())]
    for name, unit in SPREADS.items():
        values = [f.facts[name] for f in findings if f.facts.get(name) is not None and f.facts[name] > -1e9]
        if values:
            spread = f"{min(values):g} to {max(values):g}, median {median(values):g}"
            lines.append(f"{name.replace('_', ' ')}: {spread} ({unit or speech_measure()})")
    return lines


def write_report(path: Path, findings: Sequence[Finding]) -> None:
    """FILE.html to look at, or FILE.jsonl with a line per clip. Raises UserError if it cannot be written."""
    if path.suffix == ".html":
        text = _html(page_content(findings))
    else:
        text = "".join(json.dumps(finding.as_dict(), ensure_ascii=False) + "\n" for finding in findings)
    try:
        write_atomically(path, text)
    except OSError as error:
        raise UserError(f"--report {path}: cannot be written ({error.strerror})") from error


def page_content(findings: Sequence[Finding]) -> dict[str, Any]:
    """What the page shows: lines of the summary, the facts that are columns, and a row per clip, the worst first."""
    columns = list(dict.fromkeys(name for finding in findings for name in finding.facts))
    worst_first = sorted(findings, key=lambda finding: -VERDICTS.index(finding.verdict))
    rows = [
        {
            "clip": finding.id,
            "verdict": finding.verdict,
            "why": "; ".join(finding.reasons),
            "facts": [finding.facts.get(name, "") for name in columns],
        }
        for finding in worst_first
    ]
    return {"summary": summary(findings), "columns": columns, "rows": rows}


def _html(content: dict[str, Any]) -> str:
    head = ["clip", "verdict", "why", *content["columns"]]
    rows = ["<tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in head) + "</tr>"]
    for row in content["rows"]:
        cells = (row["clip"], row["verdict"], row["why"], *row["facts"])
        texts = "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells)
        rows.append(f'<tr class="{row["verdict"]}">{texts}</tr>')
    lines = "<br>".join(map(html.escape, content["summary"]))
    return page("Clips", STYLE, f"<h1>Clips</h1><p>{lines}</p><table>{''.join(rows)}</table>")
