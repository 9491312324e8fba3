"""The benchmark of shards reads what it makes, and makes the same each time."""

from __future__ import annotations

from pathlib import Path

from shared.data.shard_benchmark import make_shards, run
from shared.data.shard_index import Shard


def test_the_benchmark_reads_all(tmp_path: Path) -> None:
    found = run(records=40, workers=1, folder=tmp_path)
    assert found["record_bytes"] <= 65_536 and not list(tmp_path.iterdir())
    rates = [found[f"random_access_verify_{verify}"]["slowest_worker"] for verify in ("record", "none")]
    assert min(*rates, found["data_loader"]["all"], found["webdataset_stream"]["all"]) > 0


def test_the_same_records_make_the_same_file(made: Path, tmp_path: Path) -> None:
    make_shards(tmp_path, 6, per_shard=6)
    assert Shard.scanned(tmp_path / "00000.tar").sha256 == Shard.scanned(made / "00000.tar").sha256
