"""What the doctor of a data set found, as lines of text, as JSON lines, and as a page."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from shared.data.doctor import Finding, speech_measure
from shared.evaluation.html import render
from shared.utils.errors import UserError
from shared.utils.files import write_atomically

VERDICTS = ("ok", "warn", "refuse")
SPREADS = ("seconds", "fps_true", "level_dbfs", "speech_share")
"""Facts whose spread over the clips is told."""
WORDS = {
    "caption_words": "words of the caption", "audio_caption_words": "words of the sound's caption",
    "width": "width (pixels)", "height": "height (pixels)", "fps": "frames a second, stated",
    "fps_true": "frames a second, measured", "variable_fps": "variable frame rate", "sample_rate": "sample rate (Hz)",
    "layout": "layout of the channels", "audio_tracks": "sound tracks of the file", "audio_track": "track that is read",
    "audio_offset": "sound begins after the picture by (s)", "level_dbfs": "level (dBFS)",
    "clipping_share": "samples at full scale", "speech_share": "speech",
}  # fmt: skip
"""How facts are called for people; others are their own words with their underscores taken out."""


def summary(findings: Sequence[Finding]) -> list[str]:
    """Tell about all clips in a few lines."""
    verdicts = [finding.verdict for finding in findings]
    lines = [f"{len(findings)} clips: " + ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in VERDICTS)]
    for name in SPREADS:
        values = [f.facts[name] for f in findings if f.facts.get(name) is not None and f.facts[name] > -1e9]
        if values:
            shown = [_shown(name, value) for value in (min(values), max(values), median(values))]
            by = f" ({speech_measure()})" if name == "speech_share" else ""
            lines.append(f"{in_words(name)}{by}: {shown[0]} to {shown[1]}, median {shown[2]}")
    return lines


def in_words(fact: str) -> str:
    """Name of a fact for people."""
    return WORDS.get(fact, fact.replace("_", " "))


def _shown(fact: str, value: Any) -> str:
    """Value of a fact for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name} {seconds:g} s" for name, seconds in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, float) and math.isinf(value):
        return "none"
    if fact.endswith("_share"):
        return f"{100 * value:.3g} %"
    return f"{value:g}" if isinstance(value, float) else str(value)


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
    rows = [
        [f.id, f.verdict, "; ".join(f.reasons), *(_shown(n, f.facts[n]) if n in f.facts else "" for n in columns)]
        for f in worst_first
    ]
    classes = [finding.verdict for finding in worst_first]
    head = ["clip", "verdict", "why", *map(in_words, columns)]
    return {"summary": summary(findings), "head": head, "rows": rows, "classes": classes}
