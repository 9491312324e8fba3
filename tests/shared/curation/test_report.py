from __future__ import annotations

from pathlib import Path

from shared.curation.record import Finding, Record
from shared.curation.report import ClipReport, Report, write_report


def clip(number: int, stage: str, finding: Finding) -> ClipReport:
    return ClipReport(Record(str(number), Path("x.mp4"), "x", 0.0, 1.0), stage, finding)


REPORT = Report(
    ("shots", "technical", "cut"),
    (
        clip(0, "cut", Finding()), clip(1, "cut", Finding("fail", "timeout", "too long")),
        clip(2, "technical", Finding("drop", "black", "dark")), clip(3, "technical", Finding("drop", "small", "low")),
        clip(4, "technical", Finding("drop", "small", "low")), clip(5, "shots", Finding("drop", "short", "brief")),
    ),
    {"shots": 1.0, "technical": 2.0, "cut": 3.26},
)  # fmt: skip


def test_the_table_says_how_many_fell_where_and_why() -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in REPORT.table().splitlines()[2:]]
    assert rows == [
        ["shots", "6", "5", "1", "0", "1 short", "1.0"],
        ["technical", "5", "2", "3", "0", "2 small, 1 black", "2.0"],
        ["cut", "2", "1", "0", "1", "1 fail timeout", "3.3"],
    ]
    assert REPORT.kept == 1 and [one.record.key for one in REPORT.failed] == ["1"]


def test_clips_that_a_stage_has_not_seen_yet_are_not_counted_behind_it() -> None:
    waiting = Report(("shots", "technical", "cut"), (clip(0, "technical", Finding()),), REPORT.seconds)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in waiting.table().splitlines()[2:]]
    assert [row[1:3] for row in rows] == [["1", "1"], ["1", "1"], ["0", "0"]] and waiting.kept == 0


def test_a_line_per_clip(tmp_path: Path) -> None:
    write_report(tmp_path, REPORT)
    lines = (tmp_path / "report.jsonl").read_text().splitlines()
    assert len(lines) == 6 and '"cause": "black"' in lines[2]
