"""What a clip is as a file: size without bars, frame rate, black and frozen pictures, loudness, clipping, silence."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.curation.config import Technical
from shared.curation.loudness import loudness_lufs
from shared.curation.pictures import small_pictures
from shared.curation.record import Audio, Context, Figures, Finding, Record
from shared.data.channels import downmix, loudest_dbfs
from shared.data.doctor import clipping_share
from shared.data.media import probe, read_channels
from shared.utils.errors import UserError
from shared.utils.levels import SILENCE_DBFS, rms_dbfs, why_silent

SIDE = 320
"""Pixels of the longer side that are looked at."""
FROZEN = 0.25
"""Mean change from one picture to the next, of 255, below which it stands still."""
BAR = 24.0
"""Brightness below which all pixels of a bar stay."""
WINDOW = 0.1
"""Seconds that are silent or not."""


def examine(record: Record, context: Context) -> Finding:
    """Find the figures of a clip, and drop it by the first rule that it breaks."""
    settings = context.config.technical
    figures = _pictures(record, settings) | _sound(record)
    for cause, broken, reason in _rules(figures, settings):
        if broken:
            return Finding("drop", cause, reason, figures)
    return Finding(figures=figures)


def _rules(figures: Figures, settings: Technical) -> list[tuple[str, bool, str]]:
    side, fps = min(figures["picture"]), figures["fps"]
    shares = {name: figures[f"{name}_share"] for name in ("black", "frozen", "clipped", "silent")}
    most = {name: getattr(settings, f"most_{name}") for name in shares}
    told = {
        "black": "of the frames are black", "frozen": "of the frames are as the one before",
        "clipped": "of the samples are at full scale", "silent": f"of the time is below {SILENCE_DBFS:g} dBFS",
    }  # fmt: skip
    rules = [
        ("small", side < settings.least_side, f"its shorter side has {side} pixels; {settings.least_side} are needed"),
        ("slow", fps < settings.least_fps, f"{fps:g} frames a second; at least {settings.least_fps:g} are needed"),
        ("no sound", not figures["has_sound"], "it has no sound"),
        (
            "low rate",
            figures.get("rate", settings.least_rate) < settings.least_rate,
            f"its sound has {figures.get('rate')} Hz; at least {settings.least_rate} are needed",
        ),
        ("silent", bool(figures["silence"]), figures["silence"]),
    ]
    for name, share in shares.items():
        rules.append((name, share > most[name], f"{share:.1%} {told[name]}; at most {most[name]:.1%} may"))
    return rules


def _pictures(record: Record, settings: Technical) -> dict[str, Any]:
    info = probe(record.source)
    count = black = frozen = 0
    brightest: NDArray[np.uint8] | None = None
    last: NDArray[np.int16] | None = None
    for picture in small_pictures(record.source, record.start, record.end, SIDE):
        now = picture.pixels.astype(np.int16)
        grey = picture.pixels.max(-1)
        brightest = grey if brightest is None else np.maximum(brightest, grey)
        black += bool(now.mean() < settings.black_level)
        frozen += last is not None and bool(np.abs(now - last).mean() < FROZEN)
        last, count = now, count + 1
    assert brightest is not None  # small_pictures yields one at least
    bars = bars_of(brightest)
    height, width = info.height or 0, info.width or 0
    if (brightest.shape[0] > brightest.shape[1]) != (height > width):
        height, width = width, height  # held upright
    return {
        "size": [height, width], "fps": round(info.fps or 0.0, 3), "frames": count, "bars": bars,
        "picture": [round(height * (1 - bars[0] - bars[1])), round(width * (1 - bars[2] - bars[3]))],
        "black_share": round(black / count, 4), "frozen_share": round(frozen / max(1, count - 1), 4),
    }  # fmt: skip


def bars_of(brightest: NDArray[np.uint8]) -> list[float]:
    """Dark bars at the top, the bottom, the left and the right, in shares of the height or width; of pixels [H, W] at
    their brightest. None where all is dark."""
    lit = brightest >= BAR
    if not lit.any():
        return [0.0] * 4
    bars = []
    for axis in (1, 0):
        places = np.flatnonzero(lit.any(axis))
        size = lit.shape[1 - axis]
        bars += [round(float(places[0]) / size, 4), round(float(size - 1 - places[-1]) / size, 4)]
    return bars


def _sound(record: Record) -> dict[str, Any]:
    none = {"has_sound": False, "silence": "", "clipped_share": 0.0, "silent_share": 0.0}
    if not probe(record.source).has_audio:
        return none
    try:
        samples, rate, layout = read_channels(record.source, record.start, record.end)
    except UserError as error:
        if "no sound after" in str(error):  # the sound ends before the pictures
            return none
        raise
    mono = downmix(samples, layout)
    level = rms_dbfs(mono)
    figures = {
        "has_sound": True, "rate": rate, "channels": len(samples), "level_dbfs": _finite(level),
        "loudness_lufs": _finite(loudness_lufs(mono[0], rate)),
        "silence": why_silent(mono, loudest_dbfs(samples, layout)),
        "clipped_share": round(clipping_share(samples), 5), "silent_share": round(silent_share(mono, rate), 4),
    }  # fmt: skip
    missing = record.seconds - samples.shape[1] / rate
    return figures | {"sound_short_by": round(max(0.0, missing), 3)}


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(value, 2)


def silent_share(mono: Audio, rate: int) -> float:
    """Share of the time in which sound [1, N] is below the one definition of silence."""
    size = max(1, round(WINDOW * rate))
    parts = [mono[:, at : at + size] for at in range(0, mono.shape[1], size)]
    return float(np.mean([rms_dbfs(part) < SILENCE_DBFS for part in parts]))
