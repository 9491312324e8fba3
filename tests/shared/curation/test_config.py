from __future__ import annotations

from pathlib import Path

import pytest

from shared.curation.config import STAGE_NAMES, DemixConfig
from shared.curation.stages import STAGES
from shared.utils.errors import UserError

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("file", sorted((ROOT / "configs/data").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_files_are_read(file: Path) -> None:
    assert DemixConfig.load(file).shots.least_seconds > 0


def test_changes_and_mistakes(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("shots: {least_seconds: 1}\n")
    assert DemixConfig.load(tmp_path / "c.yaml", ["technical.least_side=64"]).technical.least_side == 64
    with pytest.raises(UserError, match=r"unknown key shots\.least; the nearest known key is shots\.least_"):
        DemixConfig.load(tmp_path / "c.yaml", ["shots.least=3"])
    with pytest.raises(UserError, match=r"shots\.least_seconds: 6 s is more than half of most_seconds, 10 s"):
        DemixConfig.load(tmp_path / "c.yaml", ["shots.least_seconds=6"])


def test_the_names_of_the_stages_are_told_before_torch_is_imported() -> None:
    assert tuple(stage.name for stage in STAGES) == STAGE_NAMES
    for stage in STAGES:
        assert set(stage.reads) <= set(STAGE_NAMES[: STAGE_NAMES.index(stage.name)])
