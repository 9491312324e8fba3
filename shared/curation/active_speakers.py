"""How much each face of a clip speaks, frame by frame, by a network that was trained to tell it: TalkNet-ASD.

The ledger keeps no boxes of faces, so that they are looked for once more, as stage `people` did, in the same pictures.
TalkNet is made for 25 frames a second: slower films repeat frames, as its public demo does.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.curation.config import DemixConfig, Speech
from shared.curation.people import see
from shared.curation.record import Loads, Record
from shared.perception.face_crops import crop_faces
from shared.perception.syncnet import FPS, RATE, SIDE
from shared.perception.talknet import TalkNetScores
from shared.perception.weights import weights_file
from shared.utils.digest import files_digest
from shared.utils.errors import UserError

Array = NDArray[np.float64]


def face_scores(record: Record, config: DemixConfig, sound: NDArray[np.float32]) -> list[Array]:
    """Score the people of a clip [T], above 0 where they speak, against its speech track [N] at RATE; NaN where there
    is no score. UserError where others are seen than stage `people` saw."""
    frames, fps, people = see(record, config.people)
    if len(people) != (before := len(record.figures["people"]["people"])):
        told = f"{len(people)} faces are seen now, and stage people saw {before}"
        raise UserError(f"{record.source}: {told}; build into a new folder")
    assert config.speech.weights is not None, "the configuration refuses talknet without weights"
    network = _network(config.speech.weights)
    count = round(len(frames) * FPS / fps)
    shown = np.minimum(np.rint(np.arange(count) * fps / FPS).astype(int), len(frames) - 1)
    nearest = np.minimum(np.rint(np.arange(len(frames)) * FPS / fps).astype(int), count - 1)
    scores = []
    for face in people:
        boxes, every = face.boxes[shown], np.full(count, np.nan)
        at = np.flatnonzero(np.isfinite(boxes[:, 0]))
        if len(at):  # else seen between two frames alone
            first, after = int(at[0]), int(at[-1]) + 1
            crops = crop_faces(frames[shown[first:after]], boxes[first:after], SIDE)
            scored = network(crops, sound[first * RATE // FPS : after * RATE // FPS])
            every[first : first + len(scored)] = scored
        scores.append(every[nearest])
    return scores


def check(settings: Speech) -> None:
    """Raise UserError where the weights are not TalkNet's."""
    if settings.weights is not None:
        _network(settings.weights)


def loads(config: DemixConfig) -> Loads | None:
    """Say what a process loads to tell who speaks; nothing where the correlation tells."""
    return None if config.speech.weights is None else Loads((_file(config.speech.weights),))


def _file(weights: Path) -> Path:
    file = weights_file(weights)
    if not file.is_file():
        raise UserError(f"speech.weights: {file}: no such file; TalkNet's weights as safetensors are needed")
    return file


def _network(weights: Path) -> TalkNetScores:
    file = _file(weights)
    return _loaded(file, files_digest([file]))


@lru_cache(1)
def _loaded(file: Path, digest: str) -> TalkNetScores:
    """Load a file once, and again when there is another of its name, as `digest` says."""
    return TalkNetScores.load(file)
