"""Samples of an evaluation that is not finished, on the disk, so that the same command goes on from them.

OUTPUT/unfinished/ holds a file per batch, frames uint8 and sounds float32 as they are, and of which settings they are.
It is gone when metrics.json is written.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from shared.utils.errors import UserError
from shared.utils.files import read_json, replacing, write_json
from shared.utils.locks import LOCK_NAME, locked

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDER, SETTINGS = "unfinished", "settings.json"


class Samples(NamedTuple):
    """What was made of a batch: frames uint8 [B, T, H, W, 3] and sounds float32 [B, N], None where none was, how long
    it took in seconds, and how often the model was evaluated."""

    frames: NDArray[np.uint8] | None
    sounds: NDArray[np.float32] | None
    seconds: float
    evaluations: int = 0


class KeptSamples:
    """The batches in `folder`, by task and the number of their first clip."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    @contextmanager
    def of(cls, output: Path, settings: str) -> Iterator[KeptSamples]:
        """Keep others from evaluating into `output` meanwhile, find what there is to go on from, and remove it when
        the block comes to its end. UserError for samples that are there and of other `settings`."""
        with locked(output / LOCK_NAME, "evaluates into it", "let it end, or give another --output"):
            folder = output / FOLDER
            if (folder / SETTINGS).exists():
                if read_json(folder / SETTINGS, advice=f"delete {folder} to begin anew").get("settings") != settings:
                    what = "holds samples of an evaluation with other options or weights"
                    raise UserError(f"{folder} {what}: give the same as before, or delete it to begin anew")
            else:
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                write_json(folder / SETTINGS, {"settings": settings})
            yield cls(folder)
            shutil.rmtree(folder)

    def _file(self, task: str, clips: Collection[int]) -> Path:
        return self.folder / f"{task.replace(':', '-').replace(' ', '-')}.{min(clips):06d}.npz"

    def read(self, task: str, clips: Collection[int]) -> Samples | None:
        """Read what was made of these clips; None: nothing yet. UserError for a damaged file."""
        file = self._file(task, clips)
        if not file.exists():
            return None
        try:
            with np.load(file) as arrays:
                frames, sounds, seconds, evaluations = (arrays.get(name) for name in Samples._fields)
            assert seconds is not None and all(len(part) == len(clips) for part in (frames, sounds) if part is not None)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, AssertionError) as error:
            raise UserError(f"{file} is damaged ({error}); delete it to sample these clips anew") from None
        return Samples(frames, sounds, float(seconds), 0 if evaluations is None else int(evaluations))

    def write(self, task: str, clips: Collection[int], samples: Samples) -> None:
        """Keep what was made of these clips, all or none."""
        arrays = {name: value for name, value in samples._asdict().items() if value is not None}
        with replacing(self._file(task, clips)) as part, open(part, "wb") as file:
            np.savez(file, **arrays)
