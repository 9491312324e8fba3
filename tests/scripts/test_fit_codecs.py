"""scripts/fit_codecs.py on real mp4 files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from scripts.fit_codecs import main
from shared.codecs import LinearAudioCodec, LinearVideoCodec
from shared.codecs.convolutional import ConvVideoCodec
from shared.data.media import write_video
from shared.utils.errors import UserError
from shared.utils.rng import numpy_generator


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three clips of half a second: a colour that changes, a hum."""
    for index in range(3):
        draw = numpy_generator(0, "clip", index)
        colours = draw.integers(0, 255, (1, 1, 1, 3)) * np.linspace(0.3, 1, 8)[:, None, None, None]
        frames = np.broadcast_to(colours, (8, 16, 16, 3)).astype(np.uint8)
        hum = 0.3 * np.sin(2 * np.pi * draw.uniform(100, 800) * np.arange(8000) / 16000)
        write_video(tmp_path / f"{index}.mp4", frames, 16, hum[None].astype(np.float32), 16000)
        (tmp_path / f"{index}.txt").write_text("a colour")
    return tmp_path


def test_fits_measures_and_saves(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = folder / "out"
    arguments = ["--manifest", str(folder), "--output", str(output), "--size", "16", "16", "--held-out", "1"]
    main(arguments)
    printed = capsys.readouterr().out
    assert "fitted on 2 clips, measured on 1 others" in printed
    assert "psnr" in printed
    assert "envelope correlation" in printed
    assert LinearVideoCodec.from_pretrained(output / "video_codec").latent_channels == 48
    assert LinearAudioCodec.from_pretrained(output / "audio_codec").latent_rate == 25
    with pytest.raises(UserError, match="exists already"):
        main(arguments)
    again = [*arguments[:2], "--measure", str(output), *arguments[4:]]
    main(again)
    measured = capsys.readouterr().out
    assert "linear fitted on 2 clips, measured on 1 others:" in measured and "written" not in measured
    assert set(printed.splitlines()[1:-1]) <= set(measured.splitlines())
    for wrong, told in (([*again, *arguments[2:4]], "not allowed with"), ([*again, "--kind", "conv"], "--kind is of"),
                        ([*again, "--steps", "3"], "--steps is for"), (arguments[:2], "--output --measure is needed"),
                        ([*again[:3], str(folder / "gone"), *again[4:]], "gone")):  # fmt: skip
        with pytest.raises(UserError, match=told):
            main(wrong)


def test_one_clip_is_too_few(folder: Path) -> None:
    for index in (1, 2):
        (folder / f"{index}.mp4").unlink()
        (folder / f"{index}.txt").unlink()
    with pytest.raises(UserError, match="1 clips; at least 2"):
        main(["--manifest", str(folder), "--output", str(folder / "out")])


def test_trains_on_puppets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    main(
        [
            "--kind",
            "conv",
            "--puppets",
            "2",
            "--steps",
            "2",
            "--held-out",
            "1",
            "--output",
            str(output),
            "--size",
            "32",
            "32",
            "--stride",
            "16",
        ]
    )
    printed = capsys.readouterr().out
    for level in ("simple", "full", "shows"):
        assert f"fitted on 2 clips, measured on 1 others of {level}" in printed
    assert re.search(r"border jump +[\d.]+ +linear +[\d.]+", printed)
    assert ConvVideoCodec.from_pretrained(output / "video_codec").spatial_stride == 16
    assert not (output / "unfinished").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--puppets", "2", "--fps", "12"], "--fps"), (["--puppets", "2", "--sample-rate", "8000"], "--sample-rate"),
        (["--puppets", "2", "--steps", "3"], "--steps is for --kind conv and wan"),
    ],
)  # fmt: skip
def test_options_that_would_do_nothing_are_refused(arguments: list[str], told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=told):
        main([*arguments, "--output", str(tmp_path / "out")])


@pytest.mark.parametrize("arguments", [[], ["--manifest", "a", "--puppets", "2"]])
def test_one_source_of_clips(arguments: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--manifest"):
        main([*arguments, "--output", str(tmp_path / "out")])
