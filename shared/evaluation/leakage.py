"""Leakage: what changes where it should not when the given stream is another clip's (docs/probes.md).

In a2v another sound may move only mouths and objects; in v2a another picture may change the sound only where something
is said or hit. Places and times come from the puppets' truth (`shared.puppets.clip.truth`), as its JSON has it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from shared.puppets import picture
from shared.utils.mel import decibels, hann, mel_filters, sine_power

Mask = NDArray[np.bool_]
Truth = Mapping[str, Any]
Span = tuple[float, float]
#: x0, y0, x1, y1 in scene units.
Box = tuple[float, float, float, float]

EDGE = 1.0  # pixels over which the edges of things fade
RING = 0.4
"""Seconds for which a hit sounds; after it the loudest of them, the bell, has faded by 1/e."""
HOP, WINDOW, MELS, FLOOR_DB = 0.01, 0.032, 64, -70.0
"""Of the log-mel levels: seconds, seconds, bands, and the decibels of a full-scale sine that count as silence."""


class Change(NamedTuple):
    """Mean absolute change outside and inside of what may change: of pixels in [0, 1], or of levels in dB."""

    outside: float
    inside: float

    @property
    def ratio(self) -> float | None:
        """Outside over inside; None where nothing changed inside."""
        return self.outside / self.inside if self.inside > 0 else None


def sounding_boxes(truth: Truth) -> list[Box]:
    """Where a clip's sound may show: the mouths of the visible people and all that its visible objects reach."""
    mouths = [person["mouth_centre"] for person in truth["characters"] if person["visible"]]
    boxes = [_around(centre, picture.MOUTH_HALF_WIDTH, picture.MOUTH_HALF_HEIGHT) for centre in mouths]
    boxes += [box for prop in truth["objects"] if prop["visible"] for box in _object_boxes(prop)]
    left, right = min(truth["pan"]), max(truth["pan"])  # a camera at x shifts the scene by -x
    return [(x0 - right, y0, x1 - left, y1) for x0, y0, x1, y1 in boxes]


def _around(centre: Sequence[float], half_width: float, half_height: float) -> Box:
    x, y = centre
    return x - half_width, y - half_height, x + half_width, y + half_height


def _object_boxes(prop: Mapping[str, Any]) -> list[Box]:
    """Cover what an object takes up at any time, its spark and the bell's glow included (two standard deviations)."""
    kind, size, x = prop["kind"], prop["size"], picture.SLOTS[prop["slot"]]
    spark = _around((x, picture.FLASH_CENTRE_Y[kind]), *picture.FLASH_RADII[kind])
    if kind == "ball":
        radius = picture.BALL_RADIUS[size]
        reach, top = 1.2 * radius, picture.FLOOR - picture.BALL_HOVER - 2 * radius
        return [spark, (x - reach, top, x + reach, picture.FLOOR + 0.03)]
    if kind == "bell":
        reach, rope = 2.3 * picture.BELL_HALF_WIDTH[size], (x - 0.1, -1.0, x + 0.1, picture.BELL_MOUTH_Y)
        return [spark, rope, _around((x, 0.48), reach, max(reach, picture.BELL_MOUTH_Y + 0.04 - 0.48))]
    half = picture.DRUM_HALF_WIDTH[size]  # the stick is on the right
    return [spark, (x - half, picture.DRUM_SKIN_Y - 0.32, x + max(half, 0.19), picture.FLOOR + 0.06)]


def sounding_region(truths: Sequence[Truth], size: tuple[int, int]) -> Mask:
    """[H, W]: pixels within EDGE of a sounding box of any of the clips."""
    rows, columns = (np.arange(count)[:, None] + 0.5 for count in size)
    region = np.zeros(size, bool)
    for x0, y0, x1, y1 in (box for truth in truths for box in sounding_boxes(truth)):
        (left, top), (right, bottom) = picture.scene_to_pixels(x0, y0, size), picture.scene_to_pixels(x1, y1, size)
        region |= (rows > top - EDGE) & (rows < bottom + EDGE) & ((columns > left - EDGE) & (columns < right + EDGE)).T
    return region


def sounding_spans(truth: Truth, start: float = 0.0) -> list[Span]:
    """Seconds in which something is said or rings, visible or not, in a clip cut at `start` of its file."""
    spans = [tuple(c["speech_span"]) for c in truth["characters"] if c["speech_span"]]
    spans += [(event["time"], event["time"] + RING) for event in truth["events"]]
    return [(first - start, last - start) for first, last in spans]


def overlaps(spans: Sequence[Span], starts: Sequence[float], ends: Sequence[float]) -> Mask:
    """[N]: which of the intervals [starts_i, ends_i) share time with any span."""
    first, last = np.array(starts), np.array(ends)
    return np.any([(first < end) & (last > begin) for begin, end in spans] or [np.zeros(len(first), bool)], axis=0)


def picture_change(first: NDArray[np.uint8], second: NDArray[np.uint8], region: Mask) -> Change | None:
    """Change between two pictures [T, H, W, 3] by the region [H, W]; None where it is empty or everything."""
    return _parted(np.abs(first.astype(np.float64) - second).mean((0, 3)) / 255, region)


def sound_change(
    first: NDArray[np.float32], second: NDArray[np.float32], rate: int, spans: Sequence[Span]
) -> Change | None:
    """Change of log-mel levels between two sounds [N] by the spans; None where these are nothing or everything."""
    change = np.abs(log_mel(first, rate) - log_mel(second, rate)).mean(1)
    centres = np.arange(len(change)) * HOP
    return _parted(change, overlaps(spans, list(centres - HOP / 2), list(centres + HOP / 2)))


def log_mel(sound: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """Levels [1 + N / (rate · HOP), MELS] in dB of a full-scale sine, not below FLOOR_DB; row k is around k · HOP."""
    size, hop = round(WINDOW * rate), round(HOP * rate)
    window, samples = hann(size, torch.device("cpu"), torch.float64), torch.from_numpy(np.asarray(sound, np.float64))
    spectrum = torch.stft(samples, size, hop, window=window, pad_mode="constant", return_complex=True)
    power = sine_power(spectrum, window).T @ mel_filters(size, MELS, rate).double()
    levels: NDArray[np.float64] = decibels(power, FLOOR_DB).numpy()
    return levels


def _parted(change: NDArray[np.float64], inside: Mask) -> Change | None:
    if inside.all() or not inside.any():
        return None
    return Change(float(change[~inside].mean()), float(change[inside].mean()))
