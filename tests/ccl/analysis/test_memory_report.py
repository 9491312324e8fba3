"""The table of a training step's memory: it adds up, follows its options, and refuses what cannot be counted."""

from __future__ import annotations

import pytest
import yaml

from ccl.analysis.memory_report import MemoryOptions, memory_report
from shared.utils.cli import parse
from shared.utils.errors import UserError


def plan(*arguments: str) -> tuple[str, dict[str, tuple[int, int]]]:
    """The text above the table, and the table: (GPU, host) by row."""
    numbers, text = memory_report(parse(MemoryOptions, None, arguments))
    head, table = text.split("\n\n", 1)
    lines = [line.rsplit(maxsplit=4) for line in table.split("\n\n")[0].splitlines()[1:]]
    rows = {row[0]: (int(row[1].replace(",", "")), int(row[3].replace(",", ""))) for row in lines}
    assert {name: (use["gpu"], use["host"]) for name, use in numbers["bytes"].items()} == rows
    return head, rows


def test_the_plan_of_the_papers_model_is_printed_and_adds_up():
    head, rows = plan("--model", "wan2.1-14b", "--zero", "3", "--gpus", "24", "--frames", "17")
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


def test_the_plan_follows_its_options(tmp_path):
    tower = {"num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 3, "ffn_dim": 48, "text_dim": 8}
    config = {"video": tower | {"in_channels": 4}, "audio": tower | {"in_channels": 5}}
    (file := tmp_path / "own.yaml").write_text(yaml.safe_dump(config | {"cca_heads": 1, "cca_head_dim": 12}))
    common = ("--model", str(file), "--gpus", "2", "--height", "64", "--width", "64", "--text-tokens", "7")
    head, plain = plan(*common, "--zero", "2", "--seconds", "1")
    assert "video 5 x 16 = 80, audio 25, text 7" in head
    _, spared = plan(*common, "--zero", "2", "--frames", "16", "--offload", "optimizer", "--no-ema")
    moments, average = spared["optimizer: moments"], plain["optimizer: moments and average"]
    assert moments == (0, average[0] * 2 // 3) and spared["gradients"] == (0, plain["gradients"][0])
    assert spared["weights"] == plain["weights"]
    _, double = plan(*common, "--zero", "0", "--frames", "16", "--batch", "2", "--precision", "fp32")
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
        plan(*known, *arguments)
