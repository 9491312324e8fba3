from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from shared.data.shard_benchmark import make_shards


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """22 records, 11 of each shape, in shards of 6."""
    folder = tmp_path_factory.mktemp("shards")
    make_shards(folder, 22, per_shard=6)
    return folder


@pytest.fixture
def shards(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "shards"))
