"""Major or minor of the puppets' music, read from a sound of the level `shows`."""

import numpy as np
from scipy.signal import stft

from shared.puppets.readers import Sound
from shared.puppets.shows import ROOTS
from shared.puppets.sound import CHORD

WINDOW, MARGIN = 0.128, 30.0
"""Seconds of a spectrum; Hz around the thirds of a root that are looked at."""
QUANTILE = 0.25
"""Of a tone's level over time: what is left of it where voices and hits pause."""
LEAST = 2e-3
"""Half the amplitude of the third below which there is no music."""


def read_mode(sound: Sound, rate: int) -> str:
    """Mode of the music in mono `sound` [N]: "major" or "minor", "" where there is none.

    The chord's third sounds two octaves up as long as the music does; voices and hits come and go. Of every root the
    shows have, the band of both thirds is looked at: the loudest has the music, and its centre of gravity lies nearer
    to one of them, also where a codec on mel bands has spread the tone.
    """
    size = round(WINDOW * rate)
    padded = np.pad(np.asarray(sound, np.float64), (0, max(0, size - len(sound))))
    frequency, _, spectra = stft(padded, rate, nperseg=size, noverlap=size * 3 // 4)
    level = np.quantile(np.abs(spectra), QUANTILE, axis=1)
    bands = []
    for root in ROOTS:
        low, high = (root * 4 * CHORD[mode][1] for mode in ("minor", "major"))
        near = (frequency > low - MARGIN) & (frequency < high + MARGIN)
        weights = level[near] - level[near].min()
        centre = float((weights * frequency[near]).sum() / max(float(weights.sum()), 1e-12))
        bands.append((float(level[near].max()), "major" if centre > (low + high) / 2 else "minor"))
    loudest, mode = max(bands)
    return mode if loudest > LEAST else ""
