from __future__ import annotations

import json
from pathlib import Path


def test_the_manifest_has_the_clips_that_every_stage_kept(built: Path) -> None:
    report = [json.loads(line) for line in (built / "report.jsonl").read_text().splitlines()]
    kept = [line["id"] for line in report if line["verdict"] == "keep"]
    manifest = [json.loads(line)["id"] for line in (built / "manifest.jsonl").read_text().splitlines()]
    assert manifest == kept and len(kept) < len(report)
