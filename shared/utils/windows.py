"""Windows of a long clip, made one after the other: each begins with the last frames of the one before.

The frames that two windows share must fill whole latents of the causal clock: 1 + k·r frames are 1 + k latents at r
frames per latent.
"""

import math
from dataclasses import dataclass

from shared.utils.errors import UserError

SECONDS = 2.0  # of a window where nothing else is asked for


@dataclass(frozen=True)
class Window:
    """Frames start .. start + frames − 1 of the video, of which the first `given` come from the window before."""

    start: int
    frames: int
    given: int

    @property
    def end(self) -> int:
        return self.start + self.frames


def window_frames(seconds: float, fps: float, temporal_stride: int) -> int:
    """Frames of the window of about `seconds` that fills whole latents: the first frame, and r for each further latent.

    2 s are 33 frames at 16 fps and the paper's 49 at 24 (r = 4). UserError for a duration that is not positive.
    """
    if not 0 < seconds < math.inf:
        raise UserError(f"a window of {seconds} s; a positive number of seconds is needed")
    return 1 + temporal_stride * max(1, round(seconds * fps / temporal_stride))


def plan(frames: int, window: int, overlap: int, temporal_stride: int = 1) -> list[Window]:
    """Windows of `window` frames that share `overlap` with the one before; the last may be shorter.

    One if `window` holds all n frames, else ceil((n − w) / (w − overlap)) + 1. UserError for no frames, a window not
    longer than the overlap, or an overlap that is not 1 + k·r frames with r = `temporal_stride`.
    """
    if frames < 1:
        raise UserError(f"a video of {frames} frames; at least 1 is needed")
    if overlap < 1 or (overlap - 1) % temporal_stride:
        near = 1 + temporal_stride * max(0, round((overlap - 1) / temporal_stride))
        raise UserError(f"windows share {overlap} frames, which fill no whole latents; give {near}")
    if window <= overlap:
        raise UserError(f"a window of {window} frames shares {overlap} with the one before; it must be longer")
    starts = range(0, max(1, frames - overlap), window - overlap)
    return [Window(start, min(window, frames - start), overlap if start else 0) for start in starts]
