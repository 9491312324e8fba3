"""Finished windows of a long sample on the disk, beside the file that it makes: there to go on from, gone at the end.

OUT.mp4.partial/ holds `frames`, uint8 as they are, and `windows.safetensors`: how many windows are finished, of which
settings, and the frames that the next one takes over; and so_far.mp4, which plays: what is finished, of a process that
was killed at once what was a little earlier.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shared.data.media_write import Video
from shared.utils.errors import UserError
from shared.utils.files import replacing
from shared.utils.launch import tell
from shared.utils.locks import locked
from shared.utils.signals import Stopped

if TYPE_CHECKING:
    from mtv.windows import WindowProgress

FRAMES, STATE, SO_FAR = "frames", "windows.safetensors", "so_far.mp4"
SHARE = 0.05  # of the time may go into so_far.mp4, which is written anew each time


class KeptWindows:
    """The windows of one sample; `settings` is the digest of all that decides them."""

    def __init__(self, output: Path, settings: str) -> None:
        self.output, self.settings = output, settings
        self.folder = output.with_name(f"{output.name}.partial")
        self.shape: tuple[int, ...] = ()  # of a frame
        self.done = self.frames = 0
        self._write: Callable[[Path, Video], None] | None = None
        self._due = 0.0
        self._each = False

    @classmethod
    @contextmanager
    def of(cls, output: Path, settings: str, resume: bool) -> Iterator[KeptWindows]:
        """Keep others from making `output` meanwhile, and find what there is to go on from, before anything is loaded.
        UserError for windows that are there and not asked for, or of other settings."""
        with locked(
            output.with_name(f".{output.name}.lock"), f"makes {output.name}", "let it end, or give another name"
        ):
            kept = cls(output, settings)
            if (kept.folder / STATE).exists():
                kept._read(resume)
            else:
                shutil.rmtree(kept.folder, ignore_errors=True)
            yield kept

    def _read(self, resume: bool) -> None:
        from safetensors import SafetensorError, safe_open

        file = self.folder / STATE
        try:
            with safe_open(file, "np") as state:
                said = state.metadata()
            self.done, self.frames = int(said["done"]), int(said["frames"])
            self.shape = tuple(int(side) for side in said["shape"].split())
            there = (self.folder / FRAMES).stat().st_size
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            raise UserError(f"{file} is damaged ({error}); delete {self.folder} to begin anew") from None
        if not resume:
            what = f"holds the first {self.frames} frames of {self.output.name}"
            raise UserError(f"{self.folder} {what}: --resume goes on from them; delete it to begin anew")
        if said["settings"] != self.settings:
            what = "holds windows of other options, inputs or weights"
            raise UserError(f"{self.folder} {what}: give the same as before, or delete it to begin anew")
        if there < self.frames * self._size:
            raise UserError(f"{self.folder / FRAMES} is damaged (too short); delete {self.folder} to begin anew")

    @property
    def _size(self) -> int:
        return int(np.prod(self.shape))

    def progress(self) -> WindowProgress:
        """Where `MTVPipeline.stream` goes on; it keeps it up to date."""
        from safetensors.torch import load_file

        from mtv.windows import WindowProgress

        last = load_file(self.folder / STATE)["last"] if self.done else None
        return WindowProgress(self.done, last)

    def add(self, new: Video, progress: WindowProgress) -> None:
        """Keep the frames [t, H, W, 3] of a window, and then that they are there."""
        import torch
        from safetensors.torch import save_file

        self.folder.mkdir(parents=True, exist_ok=True)
        self.shape = new.shape[1:]
        with open(self.folder / FRAMES, "r+b" if self.frames else "wb") as file:
            file.truncate(self.frames * self._size)  # more is of a window that was not finished
            file.seek(0, os.SEEK_END)
            file.write(np.ascontiguousarray(new).data)
            file.flush()
            os.fsync(file.fileno())
        frames = self.frames + len(new)
        said = {"done": str(progress.done), "frames": str(frames), "shape": " ".join(map(str, self.shape))}
        said["settings"] = self.settings
        last = torch.zeros(0) if progress.last is None else progress.last.cpu().contiguous()
        with replacing(self.folder / STATE) as part:
            save_file({"last": last}, part, said)
        self.done, self.frames = progress.done, frames
        due = self._each or time.monotonic() >= self._due
        if self._write is not None and progress.last is not None and due:  # more follow
            begun = time.monotonic()
            if self._play(self._write) and self._each:
                tell(f"{self.folder / SO_FAR} has the first {self.frames} frames")
            self._due = time.monotonic() + (time.monotonic() - begun) / SHARE

    def video(self) -> Video:
        """All frames so far, [T, H, W, 3], on the disk."""
        return np.memmap(self.folder / FRAMES, np.uint8, "r", shape=(self.frames, *self.shape))

    @contextmanager
    def so_far(self, write: Callable[[Path, Video], None], each: bool = False) -> Iterator[None]:
        """Make what is finished a file that plays, by `write(file, frames)`: if the block does not come to its end, and
        now and then, as far as that takes little time, for a process may be killed at once. `each`: after each window,
        and told."""
        self._write, self._each = write, each
        try:
            yield
        except BaseException as error:
            if self.done:
                self._play(write)
                if isinstance(error, Stopped):
                    kept = f"{self.folder / SO_FAR} has the first {self.frames} frames: --resume goes on from them"
                    raise Stopped(error.number, kept) from None
            raise

    def _play(self, write: Callable[[Path, Video], None]) -> bool:
        with suppress(OSError, UserError):  # on a full disk: the windows are there all the same
            write(self.folder / SO_FAR, self.video())
            return True
        return False

    def remove(self) -> None:
        """Forget the windows: the file is made."""
        shutil.rmtree(self.folder)
