"""Channels of sound by the names of their loudspeakers, and how many become one.

Mono and stereo become their mean. What has more channels is summed with the weights of ITU-R BS.775 for one channel,
not normalised, so that speech in the centre keeps its level.
"""

import logging
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from shared.utils.levels import rms_dbfs

Audio = npt.NDArray[np.float32]

_FRONT = 0.5**0.5
#: BS.775-3, table 2: a channel's weight in one channel. What the standard does not know counts as its neighbours do.
GAINS = {
    "FC": 1.0, "AMBI0": 1.0,
    **dict.fromkeys(("FL", "FR", "FLC", "FRC", "WL", "WR", "DL", "DR", "BIL", "BIR"), _FRONT),
    **dict.fromkeys(("SL", "SR", "BL", "BR", "BC", "SDL", "SDR"), 0.5),
    **dict.fromkeys(("TC", "TFL", "TFC", "TFR", "TBL", "TBC", "TBR", "TSL", "TSR", "BFC", "BFL", "BFR"), 0.5),
    "LFE": 0.0, "LFE2": 0.0, **{f"AMBI{index}": 0.0 for index in range(1, 64)},
}  # fmt: skip
#: Layouts that channels without names are taken for, by their number: the order of a wav.
UNNAMED = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
_PAIRS = ({"FL", "FR"}, {"DL", "DR"}, {"BIL", "BIR"})

_log = logging.getLogger(__name__)


def named_layout(layout: str) -> str | None:
    """Name the layout whose loudspeakers are known: `layout` itself, or what its unnamed channels are taken for."""
    channels = av.AudioLayout(layout).channels
    if all(channel.name in GAINS for channel in channels):
        return layout
    return UNNAMED.get(len(channels))


def gains(layout: str) -> list[float]:
    """Tell the weights of `layout`, as FFmpeg names it, by which its channels become one; equal if it is unknown."""
    known = named_layout(layout)
    names = [channel.name for channel in av.AudioLayout(known or layout).channels]
    if known is None or len(names) == 1 or set(names) in _PAIRS:
        return [1 / len(names)] * len(names)
    return [GAINS[name] for name in names]


def downmix(samples: Audio, layout: str) -> Audio:
    """[channels, N] -> [1, N]: the mean of one or two, otherwise by `gains`, turned down if its peak is above 1."""
    weights = gains(layout)
    if weights[0] == 1 / len(weights):  # equal ones
        return samples.mean(axis=0, keepdims=True)
    mixed = np.asarray(weights, np.float32)[None] @ samples
    return mixed / max(np.float32(1.0), np.abs(mixed).max())


def spread(samples: Audio, layout: str, target: str) -> Audio:
    """Put [channels, N] on the loudspeakers of `target`, by name: one channel in the centre or, without one, on all.

    What has more than two channels and another layout becomes one first.
    """
    if layout == target:
        return samples
    names = [channel.name for channel in av.AudioLayout(target).channels]
    if len(samples) != 2 or not {"FL", "FR"} <= set(names):
        samples = downmix(samples, layout)
        places = [names.index("FC")] if "FC" in names else list(range(len(names)))
    else:
        places = [names.index("FL"), names.index("FR")]
    result = np.zeros((len(names), samples.shape[1]), np.float32)
    result[places] = samples
    return result


def loudest_dbfs(samples: Audio, layout: str) -> float:
    """Measure the RMS of the loudest of several channels that `downmix` hears; -inf of one, which is its own mix."""
    heard = [channel for channel, gain in zip(samples, gains(layout), strict=True) if gain]
    return max(map(rms_dbfs, heard)) if len(samples) > 1 else -np.inf


def one_layout(path: Path, pieces: list[tuple[int, Audio]], layouts: list[str]) -> tuple[list[tuple[int, Audio]], str]:
    """Bring the pieces of a file's sound, each with its place, to one layout, and name it: mono where they differ.

    That, and channels without names, are told once for a file.
    """
    first = layouts[0]
    if other := next((layout for layout in layouts if layout != first), None):
        _tell(f"{path}: its sound changes from {first} to {other}; all of it is read as mono")
        return [(at, downmix(piece, layout)) for (at, piece), layout in zip(pieces, layouts, strict=True)], "mono"
    if said := unnamed_channels(first):
        _tell(f"{path}: {said}")
    return pieces, first


def unnamed_channels(layout: str) -> str:
    """Sentence about more than two channels without names, or nothing."""
    count, known = av.AudioLayout(layout).nb_channels, named_layout(layout)
    if count <= 2 or known == layout:
        return ""
    order = f"taken for {known}, the order of a wav" if known else "all of one weight"
    return f"its {count} channels have no names; they are {order}"


@lru_cache(maxsize=1024)
def _tell(line: str) -> None:
    _log.warning(line)
