"""Where a launcher has put a process, and a process without one."""

from __future__ import annotations

import pytest

from shared.utils.errors import EveryRanksError
from shared.utils.launch import Launch, tell


def launched(monkeypatch: pytest.MonkeyPatch, rank: int, size: int, together: int) -> Launch:
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(size))
    return Launch.of(together)


def test_neighbours_are_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    places = [launched(monkeypatch, rank, 4, 2) for rank in range(4)]
    assert [(one.group, one.groups, one.writes) for one in places] == [
        (0, 2, True), (0, 2, False), (1, 2, True), (1, 2, False),
    ]  # fmt: skip
    with pytest.raises(EveryRanksError, match="--context-parallel 3: start it with torchrun --nproc-per-node 3 or a"):
        launched(monkeypatch, 0, 4, 3)


def test_without_a_launcher_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    alone = Launch.of(1)
    assert alone == Launch(0, 1, 1) and alone.writes
    with alone.joined():
        assert alone.of_first("x") == "x"


def test_a_line_is_said_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        tell(f"rank {rank}")
    assert capsys.readouterr().err == "rank 0\n"
