"""scripts/benchmark.py at tiny sizes: both forms of CCA agree, the tables are there, bad options are refused."""

from __future__ import annotations

import pytest
import torch
import yaml

from ccl.analysis import context_benchmark as context
from scripts import benchmark
from shared.utils.errors import UserError


def options(**changes) -> context.CcaOptions:
    known = {
        "sizes": [(5, 4, 27)], "heads": 2, "head_dim": 24, "context_tokens": 3, "backward": False, "repeats": 1,
        "device": "cpu",
    }  # fmt: skip
    return context.CcaOptions(**(known | changes))


@pytest.mark.parametrize("direction", context.DIRECTIONS)
@pytest.mark.parametrize("size", [(5, 4, 27), (9, 3, 8), (13, 2, 70)])
def test_gathered_and_dense_are_the_same_function(direction, size):
    case = context.Case.build(direction, size, options())
    torch.testing.assert_close(case.gathered(), case.dense(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("direction", context.DIRECTIONS)
def test_gathered_memory_follows_the_tokens_and_dense_memory_the_pairs(direction):
    held = [context.measure(direction, (f, 4, 5 * f), options()) for f in (16, 64)]
    gathered, dense = ([form[i][1] for form in held] for i in (0, 1))
    assert gathered[1] < 4.4 * gathered[0]
    assert dense[1] / dense[0] > 1.3 * gathered[1] / gathered[0]


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


def plan(capsys, *arguments: str) -> tuple[str, dict[str, tuple[int, int]]]:
    """The text above the table, and the table: (GPU, host) by row."""
    benchmark.main(["memory", *arguments])
    head, table = capsys.readouterr().out.split("\n\n", 1)
    lines = [line.rsplit(maxsplit=4) for line in table.split("\n\n")[0].splitlines()[1:]]
    return head, {row[0]: (int(row[1].replace(",", "")), int(row[3].replace(",", ""))) for row in lines}


def test_the_plan_of_the_papers_model_is_printed_and_adds_up(capsys):
    head, rows = plan(capsys, "--model", "wan2.1-14b", "--zero", "3", "--gpus", "24", "--frames", "17")
    assert "22,6" in head and "video 5 x 880 = 4,400, audio 27, text 512" in head
    total = int(head.split(": ")[1].split()[0].replace(",", ""))
    assert rows["weights"] == rows["gradients"] == (4 * -(-total // 24), 0)
    assert rows["optimizer: moments and average"] == (3 * rows["weights"][0], 0)
    assert rows["text embeddings"] == (4 * 512 * (4096 + 4096), 0)
    states = [size for name, (size, _) in rows.items() if not name.startswith(("activations", "all"))]
    for how in ("no checkpointing", "checkpointing of every block"):
        assert rows[f"all, {how}"][0] == sum(states) + rows[f"activations, {how}"][0]
    kept = 40 * 4400 * 5120  # values of the inputs of all video blocks
    assert 2 * kept < rows["activations, checkpointing of every block"][0] < 10 * kept
    assert rows["activations, no checkpointing"][0] > 30 * kept


def test_the_plan_follows_its_options(capsys, tmp_path):
    tower = {"num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 3, "ffn_dim": 48, "text_dim": 8}
    config = {"video": tower | {"in_channels": 4}, "audio": tower | {"in_channels": 5}}
    (file := tmp_path / "own.yaml").write_text(yaml.safe_dump(config | {"cca_heads": 1, "cca_head_dim": 12}))
    common = ("--model", str(file), "--gpus", "2", "--height", "64", "--width", "64", "--text-tokens", "7")
    head, plain = plan(capsys, *common, "--zero", "2", "--seconds", "1")
    assert "video 5 x 16 = 80, audio 25, text 7" in head
    _, spared = plan(capsys, *common, "--zero", "2", "--frames", "16", "--offload", "optimizer", "--no-ema")
    moments, average = spared["optimizer: moments"], plain["optimizer: moments and average"]
    assert moments == (0, average[0] * 2 // 3) and spared["gradients"] == (0, plain["gradients"][0])
    assert spared["weights"] == plain["weights"]
    _, double = plan(capsys, *common, "--zero", "0", "--frames", "16", "--batch", "2", "--precision", "fp32")
    name = "activations, no checkpointing"
    assert double[name][0] > 2 * plain[name][0] and "buffers of communication" not in double


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "wan3"], "no such file"),
        (["--model", "puppets"], "has no video.in_channels"),
        (["--height", "100"], "--height 100 is no multiple of 16"),
        (["--frames", "0"], "0 frames"),
        (["--batch", "0"], "--batch 0: Input should be greater than or equal to 1"),
        (["--gpus", "0"], "0 GPUs"),
        (["--offload", "all", "--zero", "2"], "needs ZeRO-3"),
    ],
)
def test_a_plan_that_cannot_be_made_is_refused(arguments, message):
    known = ["--model", "wan2.1-1.3b", "--zero", "3", "--gpus", "8"]
    with pytest.raises(UserError, match=message):
        benchmark.main(["memory", *known, *arguments])


def test_a_folder_for_shards_must_be_there(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        benchmark.main(["shards", "--folder", str(tmp_path / "none")])
