"""Major or minor of the puppets' music, read from a sound of the level `shows`."""

from itertools import product

import numpy as np
from scipy.ndimage import gaussian_filter1d

from shared.puppets.readers import Sound
from shared.puppets.shows import ROOTS
from shared.puppets.sound import CHORD

BANDWIDTH = 0.02
"""Seconds of a Gaussian in time, 8 Hz: a codec may move a tone by so much; the thirds lie 26 Hz apart and more."""
QUANTILE = 0.25
"""Of a tone's level over time: what is left of it where voices and hits pause."""
LEAST = 2e-3
"""Amplitude of the third below which there is no music."""


def read_mode(sound: Sound, rate: int) -> str:
    """Mode of the music in mono `sound` [N]: "major" or "minor", "" where there is none.

    The chord's third sounds two octaves up as long as the music does; voices and hits come and go. So the third that
    is loudest when the least else sounds tells the mode, for every root that the shows have.
    """
    t = np.arange(len(sound)) / rate
    levels: dict[str, float] = {}
    for mode, root in product(CHORD, ROOTS):
        carried = np.asarray(sound, np.float64) * np.exp(-2j * np.pi * root * 4 * CHORD[mode][1] * t)
        smooth = gaussian_filter1d(carried.real, BANDWIDTH * rate) + 1j * gaussian_filter1d(
            carried.imag, BANDWIDTH * rate
        )
        levels[mode] = max(levels.get(mode, 0.0), 2 * float(np.quantile(np.abs(smooth), QUANTILE)))
    best = max(levels, key=lambda mode: levels[mode])
    return best if levels[best] > LEAST else ""
