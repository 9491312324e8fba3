"""What the puppets look like (docs/design.md section 9): smooth signed distances, evaluated for all frames at once.

Scene units: the shorter side of the picture is 1, the square [0,1]x[0,1] is centred in it, y grows downwards. Geometry
that can be measured in pixels stands here as named constants; a panning camera shifts it by `-pan[t]` in x.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from shared.puppets.script import Character, Distractor, Prop, Spec
from shared.puppets.shapes import (
    RING_DECAY,
    RING_RADII,
    RING_WIDTH,
    Distance,
    PerFrame,
    box_distance,
    capsule,
    decay,
    ellipse_distance,
    ring,
)
from shared.puppets.sound import beat, vowels_at
from shared.puppets.styles import STYLES, Colour

Array = NDArray[np.float64]
Box = tuple[float, float, float, float]
"""x0, y0, x1, y1."""
Window = tuple[slice, slice]
"""Rows and columns."""

SLOTS = {"left": 0.1875, "centre": 0.5, "right": 0.8125}
"""x of the places where characters and objects stand; at 64 pixels a mouth lies within one 8x8 patch."""
FLOOR = 0.84
HEAD_CENTRE_Y, HEAD_RADII = 0.42, (0.135, 0.21)
MOUTH_CENTRE_Y, MOUTH_HALF_WIDTH = 0.5625, 0.062
MOUTH_HALF_HEIGHT = 0.062
"""Half height of the fully open mouth; opening o has `max(MOUTH_SHUT, o * MOUTH_HALF_HEIGHT)`."""
MOUTH_SHUT = 0.007
MOUTH_SHAPES = ((0.95, 1.0, 0.0), (1.42, 0.5, 0.0), (0.42, 0.62, 1.0), (1.25, 0.8, 0.0), (0.66, 0.85, 1.0))
"""Of an articulated mouth, by vowel (a, i, u, e, o): width and height over those above; 1 where lips are rounded."""
LIPS, LIP_WIDTH = (0.76, 0.22, 0.27), 0.026
FLASH_CENTRE_Y = {"ball": 0.875, "bell": 0.5, "drum": 0.62}
FLASH_RADII = {"ball": (0.16, 0.055), "bell": (0.11, 0.11), "drum": (0.14, 0.08)}
"""The white spark at an object's contact point (x: its slot): twice the standard deviations of a Gaussian spot."""
FLASH_DECAY = 0.09  # seconds: from its onset on the spark's opacity is exp(-(t - onset) / FLASH_DECAY)
BALL_RADIUS = {"big": 0.115, "small": 0.075}
BALL_HOVER, BALL_FALL = 0.36, 0.3
"""Height of the waiting ball over the floor (scene units) and the seconds it takes to fall."""
BELL_HALF_WIDTH = {"big": 0.115, "small": 0.075}
BELL_MOUTH_Y, BELL_PIVOT_Y = 0.58, 0.1
DRUM_HALF_WIDTH = {"big": 0.13, "small": 0.09}
DRUM_SKIN_Y = 0.62
STRIPES = 5  # of a striped wall, in the width of the scene
PULSE = 0.03  # relative brightness of the wall on a beat
CLOUD: Colour = (0.93, 0.95, 0.98)
DARK, VIOLET = (0.10, 0.08, 0.10), np.array((0.75, 0.05, 0.95))
CANVAS_BYTES = 2**21
"""Of pixels that are painted at once: so many frames stay in a core's cache."""
_EDGE = 2.2
"""Pixels over which an edge fades: soft enough for a linear codec, and free of stair steps."""


def scene_to_pixels(x: float, y: float, size: tuple[int, int]) -> tuple[float, float]:
    """Scene units -> (column, row) of continuous pixel coordinates in a picture of `size` (H, W)."""
    (height, width), unit = size, min(size)
    return (x - 0.5) * unit + width / 2, (y - 0.5) * unit + height / 2


def render(spec: Spec, mouths: list[Array], span: range | None = None) -> NDArray[np.uint8]:
    """All frames, or those of `span`, uint8 [T,H,W,3]; `mouths`: opening 0..1 of each character at all frame times, [T]
    each."""
    windows: list[Window] = []
    _paint(_Canvas(spec, slice(None), windows, measures=True), spec, mouths)
    span = range(spec.frames) if span is None else span
    frames = np.empty((len(span), *spec.size, 3), np.uint8)
    step = max(1, CANVAS_BYTES // (spec.size[0] * spec.size[1] * 24))
    for first in range(0, len(span), step):
        some = span[first : first + step]
        canvas = _Canvas(spec, slice(some.start, some.stop, some.step), windows)
        _paint(canvas, spec, mouths)
        frames[first : first + step] = np.rint(np.clip(canvas.pixels, 0, 1) * 255)
    return frames


def _paint(canvas: "_Canvas", spec: Spec, mouths: list[Array]) -> None:
    _wall(canvas, spec)
    for distractor in spec.distractors:
        _drift(canvas, distractor)
    for prop in spec.props:
        if prop.visible:
            _PAINTERS[prop.kind](canvas, prop)
            if canvas.style.cue == "ring":
                canvas.ring(SLOTS[prop.slot], FLASH_CENTRE_Y[prop.kind], prop.onsets)
            else:
                spark = decay(canvas.t, prop.onsets, FLASH_DECAY)
                canvas.glow(SLOTS[prop.slot], FLASH_CENTRE_Y[prop.kind], FLASH_RADII[prop.kind], (1.0, 1.0, 1.0), spark)
    for character, opening in zip(spec.characters, mouths, strict=True):
        if character.visible:
            vowels = vowels_at(character, spec.frame_times())[canvas.some] if spec.articulated else None
            _character(canvas, character, opening[canvas.some, None, None], vowels)


class _Canvas:
    """Pixels [T,H,W,3] of the frames `some`, scene coordinates x [1 or T,1,W] and y [1,H,1], frame times [T,1,1].

    One that `measures` takes all frames, paints nothing, and notes the windows of what would be painted, which the
    others then use in turn: so it does not matter how many frames are painted at once.
    """

    def __init__(self, spec: Spec, some: slice, windows: list[Window], measures: bool = False) -> None:
        self.some, self.measures, self.windows, self.turn = some, measures, windows, iter(windows)
        (height, width), unit, pan = spec.size, min(spec.size), spec.pan_offsets()
        self.pixel = 1 / unit
        x = (np.arange(width) + 0.5 - width / 2) / unit + 0.5
        self.reach = float(np.abs(pan).max())
        self.x = (x + pan[some, None, None]) if self.reach else x[None, None]
        self.y = ((np.arange(height) + 0.5 - height / 2) / unit + 0.5)[None, :, None]
        self.t = spec.frame_times()[some, None, None]
        self.style = STYLES[spec.style]
        self.light = np.array(self.style.light[spec.mood])
        self.pixels = np.empty((0 if measures else len(self.t), height, width, 3))

    def paint(self, box: Box, distance: Distance, colour: Colour, opacity: PerFrame = 1.0, edge: float = _EDGE) -> None:
        """Lay the shape `distance(x, y) < 0` over the picture; nothing outside `box` is touched."""
        if (window := self._window(box)) is None:
            return
        rows, columns = window
        mask = np.clip(0.5 - distance(self.x[..., columns], self.y[:, rows]) / (edge * self.pixel), 0, 1)
        mask = mask * mask * (3 - 2 * mask) * opacity
        self._blend(rows, columns, mask, np.array(colour) * self.light)

    def glow(self, cx: float, cy: float, radii: tuple[float, float], colour: Colour, opacity: Array) -> None:
        """Gaussian spot of light, `opacity` [T,1,1]; not tinted by the mood."""
        rx, ry = radii
        if (window := self._window((cx - 1.6 * rx, cy - 1.6 * ry, cx + 1.6 * rx, cy + 1.6 * ry))) is None:
            return
        rows, columns = window
        x, y = (self.x[..., columns] - cx) / rx, (self.y[:, rows] - cy) / ry
        spot = np.maximum(np.exp(-2 * (x * x + y * y)) - 0.006, 0) / 0.994
        self._blend(rows, columns, spot * opacity, np.array(colour))

    def ring(self, cx: float, cy: float, onsets: tuple[float, ...]) -> None:
        """Violet ring that widens and fades after each onset; not tinted by the mood."""
        reach = RING_RADII[1] + 2 * RING_WIDTH
        if (window := self._window((cx - reach, cy - reach, cx + reach, cy + reach))) is None:
            return
        rows, columns = window
        opacity = decay(self.t, onsets, RING_DECAY)
        since = -RING_DECAY * np.log(np.maximum(opacity, 1e-9))
        self._blend(rows, columns, ring(self.x[..., columns] - cx, self.y[:, rows] - cy, since) * opacity, VIOLET)

    def body(self, cx: float, cy: float, rx: float, ry: float, colour: Colour) -> None:
        """Paint a head or a body: an ellipse or, where the style has straight sides, nearly a box."""
        if not self.style.square:
            self.ellipse(cx, cy, rx, ry, colour)
            return
        box = (cx - rx, cy - ry, cx + rx, cy + ry)
        self.paint(box, lambda x, y: box_distance(x - cx, y - cy, 0.92 * rx, 0.95 * ry), colour)

    def ellipse(
        self, cx: PerFrame, cy: PerFrame, rx: PerFrame, ry: PerFrame, colour: Colour, opacity: PerFrame = 1.0,
        edge: float = _EDGE,
    ) -> None:  # fmt: skip
        """Paint a filled ellipse."""
        box = (float(np.min(cx - rx)), float(np.min(cy - ry)), float(np.max(cx + rx)), float(np.max(cy + ry)))
        self.paint(box, lambda x, y: ellipse_distance(x - cx, y - cy, rx, ry), colour, opacity, edge)

    def _window(self, box: Box) -> Window | None:
        """Rows and columns that `box` may touch, whatever the camera does; None while measuring."""
        if not self.measures:
            return next(self.turn)
        margin = 2 * self.pixel
        xs, ys = self.x[0, 0], self.y[0, :, 0]
        inside_x = np.flatnonzero((xs > box[0] - margin - 2 * self.reach) & (xs < box[2] + margin + 2 * self.reach))
        inside_y = np.flatnonzero((ys > box[1] - margin) & (ys < box[3] + margin))
        rows, columns = (slice(i[0], i[-1] + 1) if len(i) else slice(0, 0) for i in (inside_y, inside_x))
        self.windows.append((rows, columns))
        return None

    def _blend(self, rows: slice, columns: slice, mask: Array, colour: Array) -> None:
        region = self.pixels[:, rows, columns]
        change = colour - region
        change *= mask[..., None]
        region += change


def _wall(canvas: _Canvas, spec: Spec) -> None:
    if not canvas.measures:
        canvas.pixels[:] = _bare_wall(canvas, spec)
    canvas.paint((-9, FLOOR - 0.04, 9, 9), lambda x, y: FLOOR - 0.035 - y + 0 * x, canvas.style.floor[0])
    canvas.paint((-9, FLOOR + 0.05, 9, 9), lambda x, y: FLOOR + 0.09 - y + 0 * x, canvas.style.floor[1], edge=6)


def _bare_wall(canvas: _Canvas, spec: Spec) -> Array:
    top, bottom = (np.array(colour) for colour in canvas.style.wall[spec.mood])
    height = np.clip(canvas.y / FLOOR, 0, 1)[..., None]
    spot = np.exp(-(((canvas.x - 0.5) / 0.45) ** 2) - ((canvas.y - 0.3) / 0.4) ** 2)[..., None]
    wall = (top + (bottom - top) * height) * (1 + 0.14 * (spot - 0.4))
    if canvas.style.stripes:
        wall = wall * (1 + canvas.style.stripes * np.sin(2 * np.pi * STRIPES * canvas.x)[..., None])
    gain = 1 + PULSE * (beat(canvas.t, spec.tempo, spec.beat_phase)[..., None] if spec.music else 0.0)
    return np.asarray(wall * gain)


def _character(canvas: _Canvas, character: Character, opening: Array, vowels: NDArray[np.int_] | None) -> None:
    cx, woman, style = SLOTS[character.side], character.kind == "woman", canvas.style
    hair, neck, (rx, ry) = style.hair[character.kind], style.neck, HEAD_RADII
    if woman:
        canvas.body(cx, HEAD_CENTRE_Y + 0.05, rx + 0.035, ry + 0.09, hair)
    canvas.ellipse(cx, 0.64, 0.05, 0.09, neck)
    canvas.body(cx, 0.98, 0.18, 0.29, style.palette[character.shirt])
    canvas.ellipse(cx, 0.685, 0.065, 0.045, neck)
    if not woman:
        for ear in (-1, 1):
            canvas.ellipse(cx + ear * rx, HEAD_CENTRE_Y + 0.01, 0.028, 0.045, style.ears)
    canvas.body(cx, HEAD_CENTRE_Y, rx, ry, style.skin)
    brow, bend = (0.33, 2.5) if woman else (0.30, -1)

    def cap(x: Array, y: Array) -> Array:
        head = ellipse_distance(x - cx, y - HEAD_CENTRE_Y, rx + 0.012, ry + 0.02)
        return np.maximum(head, y - brow + 1.6 * (x - cx) ** 2 * bend)

    canvas.paint((cx - rx - 0.02, 0.15, cx + rx + 0.02, 0.45), cap, hair)
    for eye in (-1, 1):
        canvas.ellipse(cx + eye * 0.058, 0.40, 0.027, 0.034, (1.0, 1.0, 1.0))
        canvas.ellipse(cx + eye * 0.058, 0.405, 0.015, 0.022, DARK)
    if vowels is None:
        radii: tuple[PerFrame, PerFrame] = MOUTH_HALF_WIDTH, np.maximum(MOUTH_SHUT, opening * MOUTH_HALF_HEIGHT)
        if style.mouth_opens == "in width":
            radii = np.maximum(MOUTH_SHUT, opening * MOUTH_HALF_WIDTH), MOUTH_HALF_HEIGHT * 0.8
        canvas.ellipse(cx, MOUTH_CENTRE_Y, *radii, style.mouth)
    else:
        _mouth(canvas, cx, opening, vowels)


def _mouth(canvas: _Canvas, cx: float, opening: Array, vowels: NDArray[np.int_]) -> None:
    """Paint an articulated mouth; shut, it has the width of a mouth at rest."""
    width, height, rounded = np.array([*MOUTH_SHAPES, (1.0, 1.0, 0.0)])[vowels].T[..., None, None]
    formed = np.minimum(1, opening / 0.25)
    rx = MOUTH_HALF_WIDTH * (1 + (width - 1) * formed)
    ry = np.maximum(MOUTH_SHUT, opening * height * MOUTH_HALF_HEIGHT)
    lips = LIP_WIDTH * formed
    canvas.ellipse(cx, MOUTH_CENTRE_Y, rx + lips, ry + lips, LIPS, rounded * formed)
    canvas.ellipse(cx, MOUTH_CENTRE_Y, rx, ry, canvas.style.mouth)


def ball_height(t: Array, onsets: tuple[float, ...]) -> Array:
    """Height of the ball over the floor: it hovers, falls onto the first onset, hops to the last, and rests."""
    fall = np.clip((t - onsets[0]) / BALL_FALL + 1, 0, 1)
    height = np.where(t < onsets[0], BALL_HOVER * (1 - fall**2), 0.0)
    for start, end in pairwise(onsets):
        along = (t - start) / (end - start)
        apex = min(BALL_HOVER, 0.45 * (end - start))
        height = np.where((along > 0) & (along < 1), 4 * apex * along * (1 - along), height)
    return height


def _ball(canvas: _Canvas, prop: Prop) -> None:
    cx, radius, colour = SLOTS[prop.slot], BALL_RADIUS[prop.size], np.array(canvas.style.palette[prop.colour])
    squash, height = decay(canvas.t, prop.onsets, 0.08), ball_height(canvas.t, prop.onsets)
    rx, ry = radius * (1 + 0.18 * squash), radius * (1 - 0.22 * squash)
    cy = FLOOR - height - ry
    canvas.ellipse(cx, FLOOR + 0.01, radius * (1 - height), 0.022, (0.22, 0.13, 0.10), 0.6)
    canvas.ellipse(cx, cy, rx, ry, colour)
    shine = colour + (1 - colour) * 0.5
    canvas.ellipse(cx - 0.3 * radius, cy - 0.35 * ry, 0.42 * rx, 0.36 * ry, shine, 0.7, edge=4)


def _bell(canvas: _Canvas, prop: Prop) -> None:
    cx, half, colour = SLOTS[prop.slot], BELL_HALF_WIDTH[prop.size], canvas.style.palette[prop.colour]
    height = 2.1 * half
    swings = [np.maximum(canvas.t - onset, 0) for onset in prop.onsets]
    angle = sum(0.16 * np.exp(-after / 0.45) * np.sin(2 * np.pi * 1.5 * after) for after in swings)
    cos, sin = np.cos(angle), np.sin(angle)
    length = BELL_MOUTH_Y - BELL_PIVOT_Y

    def body(x: Array, y: Array) -> Array:
        u = (x - cx) * cos - (y - BELL_PIVOT_Y) * sin
        v = ((x - cx) * sin + (y - BELL_PIVOT_Y) * cos - length) / height + 1
        width = half * (0.52 * np.sqrt(np.clip(v * 6, 0, 1)) + 0.48 * np.clip(v, 0, 1) ** 3)
        width = half * np.clip(0.25 + 0.75 * v, 0, 1) if canvas.style.square else width
        return np.maximum(np.abs(u) - width, (v - 1) * height)

    canvas.glow(cx, 0.48, (2.3 * half, 2.3 * half), (1.0, 0.95, 0.7), 0.75 * decay(canvas.t, prop.onsets, 0.15))
    top = (cx + sin * (length - height), BELL_PIVOT_Y + cos * (length - height))
    canvas.paint((cx - 0.1, -9, cx + 0.1, 0.5), capsule((cx, -1.0), top, 0.009), (0.35, 0.25, 0.2))
    canvas.ellipse(cx + sin * (length + 0.012), BELL_PIVOT_Y + cos * (length + 0.012), 0.026, 0.026, (0.25, 0.2, 0.15))
    canvas.paint((cx - 2 * half, 0.2, cx + 2 * half, BELL_MOUTH_Y + 0.05), body, colour)


def _drum(canvas: _Canvas, prop: Prop) -> None:
    cx, half, colour = SLOTS[prop.slot], DRUM_HALF_WIDTH[prop.size], canvas.style.palette[prop.colour]
    skin, bottom = DRUM_SKIN_Y, FLOOR + 0.02

    def shell(x: Array, y: Array) -> Array:
        box = np.maximum(np.abs(x - cx) - half, np.maximum(skin - y, y - bottom))
        return np.minimum(box, ellipse_distance(x - cx, y - bottom, half, 0.035))

    canvas.paint((cx - half, skin, cx + half, bottom + 0.04), shell, colour)
    canvas.ellipse(cx, skin, half, 0.036, (0.66, 0.50, 0.34))
    lift = np.ones_like(canvas.t)
    for onset in prop.onsets:
        before, after = (onset - canvas.t) / 0.15, (canvas.t - onset) / 0.25
        lift = np.minimum(lift, np.where(canvas.t < onset, np.clip(before, 0, 1) ** 0.7, np.clip(after, 0, 1)))
    hand, tip = (cx + 0.17, skin - 0.13), (cx - 0.012, skin - 0.30 * lift)
    canvas.paint((cx - 0.2, 0.2, cx + 0.22, skin + 0.05), capsule(hand, tip, 0.014), (0.62, 0.42, 0.25))


_PAINTERS: dict[str, Callable[[_Canvas, Prop], None]] = {"ball": _ball, "bell": _bell, "drum": _drum}


def _drift(canvas: _Canvas, distractor: Distractor) -> None:
    cx = distractor.x + distractor.speed * canvas.t
    cy = distractor.y + 0.02 * np.sin(2.5 * canvas.t + distractor.x)
    if distractor.kind == "cloud":
        for dx, dy, radius in ((-0.07, 0.01, 0.05), (0.0, -0.015, 0.065), (0.075, 0.01, 0.05)):
            canvas.ellipse(cx + dx, cy + dy, radius * 1.2, radius, CLOUD, edge=4)
    else:
        canvas.paint((-9, 0, 9, 0.6), capsule((cx, cy), (cx - 0.01, cy + 0.2), 0.005), (0.4, 0.35, 0.3))
        canvas.ellipse(cx, cy, 0.06, 0.075, canvas.style.palette[distractor.colour])
