"""The tables in docs/ are those of the files in assets/puppets and of the schema."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import doc_tables
import pytest

from shared.utils.errors import UserError

ROOT = Path(__file__).parents[2]


def test_the_tables_are_what_code_and_metrics_say() -> None:
    doc_tables.main(["--check"])
    for path, _, block in doc_tables.blocks():
        assert block in (ROOT / path).read_text()


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in {path for path, _, _ in doc_tables.blocks()}:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("assets/puppets", "assets/puppets_few"):
        shutil.copytree(ROOT / name / "curve", tmp_path / name / "curve")
        for file in (ROOT / name).glob("metrics*.json"):
            shutil.copy(file, tmp_path / name)
    monkeypatch.setattr(doc_tables, "ROOT", tmp_path)
    return tmp_path


def test_another_score_is_noticed_and_written(copy: Path) -> None:
    file = copy / "assets/puppets/metrics.json"
    metrics = json.loads(file.read_text())
    metrics["tasks"]["a2v"]["measures"]["scores"]["events"]["value"] = 0.1234
    file.write_text(json.dumps(metrics))
    with pytest.raises(UserError, match=r"checkpoint\.md: the results are not what"):
        doc_tables.main(["--check"])
    doc_tables.main([])
    doc_tables.main(["--check"])
    assert "| 0.12 |" in (copy / "docs/checkpoint.md").read_text()


def test_missing_marks_and_files_are_named(copy: Path) -> None:
    shutil.move(copy / "assets/puppets/curve", copy / "curve")
    with pytest.raises(UserError, match="curve: no metrics of intermediate steps"):
        doc_tables.main([])
    shutil.move(copy / "curve", copy / "assets/puppets/curve")
    (copy / "docs/checkpoint.md").write_text("<!-- results:begin -->\n")
    with pytest.raises(UserError, match=r"checkpoint\.md: has no marks"):
        doc_tables.main([])


def test_evaluations_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(ROOT / "assets/puppets/metrics.json", tmp_path / "metrics.json")
    looks = json.loads((tmp_path / "metrics.json").read_text())["tasks"]["mtv:text changed"]["measures"]["scores"][
        "looks"
    ]
    doc_tables.main(["--compare", str(tmp_path)])
    out = capsys.readouterr().out
    assert f"| simple | mtv:text changed | looks | {looks['clips']} | {looks['value']:.2f} | " in out
    assert "**text changed and tracks kept: sync, against the clip's own text** (`simple`): within 0.03" in out
    with pytest.raises(UserError, match="--compare writes no document; leave --check out"):
        doc_tables.main(["--compare", str(tmp_path), "--check"])


def test_a_stale_table_of_keys_is_told_and_renewed(copy: Path) -> None:
    page = copy / "docs/configuration.md"
    page.write_text(page.read_text().replace("| `seed` |", "| `sede` |"))
    with pytest.raises(UserError, match=r"configuration\.md: the keys of a run are not what .*; run make docs"):
        doc_tables.main(["--check"])
    doc_tables.main([])
    doc_tables.main(["--check"])
    assert page.read_text() == (ROOT / "docs/configuration.md").read_text()
