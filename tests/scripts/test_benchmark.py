"""scripts/benchmark.py at tiny sizes: the tables are there, bad options are refused."""

from __future__ import annotations

import json

import pytest

from scripts import benchmark
from shared.utils.errors import UserError


def test_the_command_prints_both_tables(capsys):
    benchmark.main(["cca", "--sizes", "5,4,27", "3,2,9", "--heads", "1", "--head-dim", "12", "--repeats", "1",
                    "--device", "cpu", "--backward"])  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert sum("audio to video" in line for line in lines) == sum("video to audio" in line for line in lines) == 6
    assert lines[0].startswith("CCA, forward and backward, batch 1, 1 heads x 12")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sizes", "5,4"], "'5,4' is not F,S,A"),
        (["--sizes", "5,4,0"], "'5,4,0'"),
        (["--heads", "0"], "--heads 0: Input should be greater than or equal to 1"),
        (["--head-dim", "7"], "--head-dim 7: Input should be a multiple of 2"),
    ],
)
def test_bad_options_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        benchmark.main(["cca", *arguments])


def test_shards_prints_every_readers_rate(capsys, tmp_path):
    benchmark.main(["shards", "--records", "40", "--workers", "2", "--folder", str(tmp_path)])
    head, *_, checked, plain, loader, stream = capsys.readouterr().out.splitlines()
    assert head.startswith("40 records of at most ") and "2 workers" in head
    assert int(head.split()[5]) <= 65_536
    for line, count in ((checked, 3), (plain, 3), (loader, 1), (stream, 3)):
        rates = [int(word) for word in line.split() if word.isdigit()]
        assert len(rates) == count and min(rates) > 0
    assert not list(tmp_path.iterdir())


def test_a_folder_for_shards_must_be_there(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        benchmark.main(["shards", "--folder", str(tmp_path / "none")])


def test_the_numbers_go_into_a_file_with_what_they_are_of(capsys, tmp_path):
    file = tmp_path / "new" / "step.json"
    size = "--width 32 --head-dim 8 --layers 1 --grid 2,2,2 --audio-tokens 5 --text-tokens 3 --repeats 2 --device cpu"
    benchmark.main(["step", *size.split(), "--against", "wan", "--json", str(file)])
    written = json.loads(file.read_text())
    assert written["command"] == "step" and written["options"]["grid"] == [2, 2, 2]
    assert {"processor", "threads", "torch", "commit"} <= written["machine"].keys()
    median = written["results"]["seconds"]["t2av"]["median"]
    assert f"{median * 1e3:.4g}" in capsys.readouterr().out
    benchmark.main(
        ["memory", "--model", "wan2.1-1.3b", "--zero", "1", "--gpus", "2", "--frames", "5", "--json", str(file)]
    )
    assert json.loads(file.read_text())["results"]["bytes"]["weights"]["gpu"] > 2**32


def test_a_file_that_cannot_be_written_is_refused_first(tmp_path):
    with pytest.raises(UserError, match="--json"):
        benchmark.main(["step", "--json", str(tmp_path)])
    with pytest.raises(UserError, match="no such file"):
        benchmark.main(["step", "--model", "wan3"])
