"""The builder on Ray: the same data set to the byte, and a process that dies or hangs costs its own clip alone."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from films import Segment

from mtv.captions import compose
from mtv.demix import separated
from shared.curation.build import build
from shared.curation.children import Lost
from shared.curation.config import DemixConfig
from shared.curation.on_ray import on_ray
from shared.curation.record import Tools
from shared.curation.sources import Source
from shared.utils.errors import UserError


def test_without_ray_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    config = DemixConfig.model_validate({"shots": {"detector": "none"}})
    with pytest.raises(UserError, match=r"needs the package ray, which is not installed; run pip install .*ccl\[ray\]"):
        build([Source(tmp_path / "x.mp4")], tmp_path / "set", config, None, 1, ["shots"], executor="ray")  # type: ignore[arg-type]
    assert not (tmp_path / "set").exists()


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    ray = pytest.importorskip("ray", reason="ray is not installed")
    yield ray
    ray.shutdown()


def ended(number: int) -> object:
    """What is run in Ray's processes, which know no file of tests: built of what they have."""
    return {2: lambda: os._exit(9), 4: lambda: time.sleep(60)}.get(number, lambda: 10 * number)()


@pytest.mark.slow
def test_one_that_hangs_and_one_that_dies_are_named_and_the_others_go_on(ray: Any) -> None:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    found = dict(on_ray(ended, iter(range(1, 7)), 2, lambda number: 5.0))
    lost = {number: result.cause for number, result in found.items() if isinstance(result, Lost)}
    assert lost == {2: "crashed", 4: "timeout"}
    assert {number: found[number] for number in (1, 3, 5, 6)} == {1: 10, 3: 30, 5: 50, 6: 60}
    assert list(on_ray(ended, iter([]), 2, lambda number: 5.0)) == []


@pytest.mark.slow
def test_the_data_set_is_the_same_to_the_byte(
    ray: Any, built: Path, film: tuple[Path, list[Segment]], config: DemixConfig, tmp_path: Path
) -> None:
    assert ray is not None
    tools = Tools(separated, compose)
    build([Source(film[0], "CC0-1.0")], tmp_path / "set", config, tools, 2, executor="ray")
    files, others = (
        sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        for folder in (built, tmp_path / "set")
    )
    assert files == others
    timed = ("ledger.jsonl", "README.md", "index.html")  # they tell seconds of work, and where the film is from here
    others = [path for path in files if str(path) not in timed and not path.name.startswith(".")]
    assert len(others) > 10
    assert [path for path in others if (tmp_path / "set" / path).read_bytes() != (built / path).read_bytes()] == []
