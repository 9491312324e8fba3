"""The page of `make gpu`: everything that was found, and nothing that was not."""

from __future__ import annotations

from pathlib import Path

from ccl.analysis.gpu_page import page, write_page

SPEED = {
    "seconds": 2.0, "fastest": 1.9, "slowest": 2.2, "flops": 9e14, "rate": 4.5e14, "mfu_of_matmul": 0.6,
    "mfu_of_nominal": 0.455, "hfu_of_nominal": 0.6,
}  # fmt: skip
MODEL = {
    "model": "wan2.2-5b-ovi", "parameters": 12_268_898_624, "learning": 2_268_898_624, "video_tokens": 15_004,
    "audio_tokens": 157, "matmul_rate": 7.5e14, "nominal_rate": 9.89e14, "forecast_bytes": 20e9, "peak_bytes": 21e9,
}  # fmt: skip
EQUAL = {
    "model": "m", "video_tokens": 10, "audio_tokens": 2, "equal": True, "output_error": 0.1, "gradient_error": 0.1,
    "worst": "blocks.0|x", "worst_error": 0.01, "native_error_there": 0.02, "forward_seconds": 0.01,
    "both_seconds": 0.03, "peak_bytes": 5e6,
}  # fmt: skip
COMPILED = {"compile_seconds": 30.0, "compiled_frames": 2, "graph_breaks": 0}
CONTENT = {
    "tiny": False, "seconds": 400.0,
    "machine": {"gpu": "NVIDIA H200", "gpu_bytes": 139 * 2**30, "torch": "2.11.0", "commit": "abc"},
    "parts": {
        "plan": {"status": "done", "seconds": 9.0, "results": {"all_adamw_bytes": 221e9, "all_adamw_of": "the large"}},
        "sampling": {"status": "done", "results": MODEL | {"passes_of_a_step": 3, "pass": SPEED, "step": SPEED}},
        "sampling-compiled": {"status": "done", "results": MODEL | COMPILED | {"passes_of_a_step": 3, "pass": SPEED}},
        "adapters": {"status": "stopped", "reason": "after its 30 s", "results": MODEL},
        "native": {"status": "done", "results": EQUAL},
        "flex-compiled": {"status": "done", "results": EQUAL | COMPILED | {"equal": False}},
        "flash": {"status": "skipped", "reason": "needs flash-attn>=2.8"},
        "xformers": {"status": "failed", "reason": "exit code 1", "results": {"model": "m"}},
        "toy": {"status": "done", "results": {
            "clips": 256, "train_seconds": 119.6, "steps": 700, "video_loss": [1.9, 0.9], "audio_loss": [1.5, 0.7],
            "curves": {"video": [[10, 1.9], [700, 0.9]], "audio": [[10, 1.5], [700, 0.7]]}}},
    },
}  # fmt: skip


def test_the_page_has_all_that_was_found() -> None:
    text = page(CONTENT)
    assert "NVIDIA H200, 139 GiB; torch 2.11.0, commit abc; 400 s in all" in text
    assert "| AdamW over all weights of the large, before any activation | 221.00 | 205.8 |" in text
    assert "12,268,898,624 parameters, 2,268,898,624 of them learn; 15,004 + 157 tokens" in text
    assert "750 TFLOP/s; the data sheet says 989" in text
    assert "| a guided step, 3 passes | as they are | 2.000 (1.900 to 2.200) | 450 | 60.0% | 45.5% | 60.0% |" in text
    assert text.count("| a pass | compiled |") == 1 and text.count("a guided step, 3 passes |") == 1
    assert "| compiled | 21.00 | 20.00 | +5.0% | 30 | 2 | 0 |" in text
    assert "| adapters | stopped | 0 | after its 30 s |" in text
    assert "| native | as they are | 10.00 | 30.00 | 5.0 | yes | blocks.0\\|x: 1.0e-02 (native: 2.0e-02) |" in text
    assert "| flex | compiled | 10.00 | 30.00 | 5.0 | NO |" in text and "| xformers | as they are" not in text
    assert "700 steps on 256 clips in 120 s" in text and "Loss: video 1.900 to 0.900, audio 1.500 to 0.700." in text
    assert "--tiny" not in text


def test_a_page_of_nothing_is_a_page() -> None:
    text = page({"tiny": True, "seconds": 0.0, "machine": {"torch": "2", "commit": "a"}, "parts": {}})
    assert text.startswith("# One GPU\n\nno GPU;") and "whose numbers say nothing" in text and "##" not in text


def test_the_curve_is_drawn_beside_it(tmp_path: Path) -> None:
    write_page(tmp_path, CONTENT)
    write_page(tmp_path, CONTENT)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["gpu.md", "losses.svg"]
    drawn = (tmp_path / "losses.svg").read_text(encoding="utf-8")
    assert (
        drawn.count("<path") > 5
        and "![Losses of both streams by step](losses.svg)" in (tmp_path / "gpu.md").read_text()
    )
