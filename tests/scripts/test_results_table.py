"""The tables of scores in docs/checkpoint.md and docs/mtv.md are those of the files in assets/puppets."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import results_table

from shared.utils.errors import UserError

ROOT = Path(__file__).parents[2]


def test_the_tables_are_what_the_metrics_say() -> None:
    results_table.main(["--check"])
    metrics = ROOT / "assets/puppets"
    for path, _, make in results_table.BLOCKS:
        assert make(metrics) in (ROOT / path).read_text()


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, _, _ in results_table.BLOCKS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    metrics = tmp_path / "assets/puppets"
    shutil.copytree(ROOT / "assets/puppets/curve", metrics / "curve")
    for file in (ROOT / "assets/puppets").glob("metrics*.json"):
        shutil.copy(file, metrics)
    monkeypatch.setattr(results_table, "ROOT", tmp_path)
    return tmp_path


def test_another_score_is_noticed_and_written(copy: Path) -> None:
    file = copy / "assets/puppets/metrics.json"
    metrics = json.loads(file.read_text())
    metrics["tasks"]["a2v"]["scores"]["event_f1"]["headline"] = 0.1234
    file.write_text(json.dumps(metrics))
    with pytest.raises(UserError, match=r"checkpoint\.md: the results are not what"):
        results_table.main(["--check"])
    results_table.main([])
    results_table.main(["--check"])
    assert "0.12 |" in (copy / "docs/checkpoint.md").read_text()


def test_missing_marks_and_files_are_named(copy: Path) -> None:
    (copy / "assets/puppets/metrics_full.json").unlink()
    with pytest.raises(UserError, match=r"metrics_full\.json cannot be read"):
        results_table.main([])
    (copy / "docs/checkpoint.md").write_text("<!-- results:begin -->\n")
    shutil.copy(ROOT / "assets/puppets/metrics_full.json", copy / "assets/puppets")
    with pytest.raises(UserError, match=r"checkpoint\.md: has no marks"):
        results_table.main([])
