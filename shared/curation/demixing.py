"""A clip's sound taken apart into speech, effects and music, by two demixers where there are two, which must agree.

The paper's rule (arXiv 2506.08003): the L1 distance of the speech tracks; and, where one of effects and music is
silent, that of the other against all that is not speech. A clip is dropped only for a large distance of a pair that can
be compared. -45 dBFS is silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from shared.curation.record import Audio, Context, Finding, Record
from shared.data.channels import downmix
from shared.data.media import read_channels
from shared.data.media_write import write_audio
from shared.utils.levels import is_silent, rms_dbfs

TRACKS = ("speech", "effects", "music")
FOLDER = "tracks"


def demix(record: Record, context: Context) -> Finding:
    """Write OUTPUT/tracks/KEY/TRACK.wav, exact zeros where a track is silent."""
    settings = context.config.demix
    mix, rate = mix_of(record)
    tracks = context.tools.demix(settings.demixer, settings.checkpoints, settings.device, mix, rate)
    silent = [name for name in TRACKS if is_silent(tracks[name])]
    figures = {
        "rate": rate, "silent": silent,
        "levels_dbfs": {name: round(max(-120.0, rms_dbfs(tracks[name])), 2) for name in TRACKS},
    }  # fmt: skip
    if settings.second is not None:
        other = context.tools.demix(settings.second, settings.second_checkpoints, settings.device, mix, rate)
        distances = compare(tracks, other, mix)
        figures["l1"] = {name: round(distance, 5) for name, distance in distances.items()}
        if far := {name: distance for name, distance in distances.items() if distance > settings.most_l1}:
            name = max(far, key=far.__getitem__)
            told = f"{settings.demixer} and {settings.second} differ in {name} by {far[name]:.2f} of the mix"
            return Finding("drop", "demixers differ", f"{told}; at most {settings.most_l1:g} may", figures)
    files = track_files(context.output, record.key)
    for name, file in files.items():
        write_audio(file, np.zeros_like(tracks[name]) if name in silent else tracks[name], rate)
    return Finding(
        figures=figures | {"files": [file.relative_to(context.output).as_posix() for file in files.values()]}
    )


def compare(first: Mapping[str, Audio], second: Mapping[str, Audio], mix: Audio) -> dict[str, float]:
    """Measure L1 distances of pairs of tracks [channels, N] that can be compared, in shares of the L1 of the mix."""
    rest = second["effects"] + second["music"]
    pairs = {"speech": second["speech"]}
    if is_silent(first["music"]):
        pairs["effects"] = rest
    elif is_silent(first["effects"]):
        pairs["music"] = rest
    whole = max(float(np.abs(mix).mean()), 1e-9)
    return {name: float(np.abs(first[name] - other).mean()) / whole for name, other in pairs.items()}


def mix_of(record: Record) -> tuple[Audio, int]:
    """Sound of a clip [1 or 2, N] at its own rate; more channels become one."""
    samples, rate, layout = read_channels(record.source, record.start, record.end)
    return (samples if len(samples) <= 2 else downmix(samples, layout)), rate


def track_files(output: Path, key: str) -> dict[str, Path]:
    """Where the tracks of the clip with this key are."""
    return {name: output / FOLDER / key / f"{name}.wav" for name in TRACKS}
