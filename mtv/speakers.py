"""One speech track of several people, as a track for each: stretches of it by whose voice they are.

Who speaks when is found by `shared.perception.turns`, or by a pipeline of pyannote.audio, where its folder is named in
the place of an embedder of voices. A track holds its speaker's stretches as they are, and silence
elsewhere, so the tracks sum to the whole; two voices at once are not parted and stand in both tracks.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torchaudio.functional import resample

from mtv.tracks import Tracks
from shared.perception.diarisation import load_diariser
from shared.perception.pipeline_folder import is_pipeline
from shared.perception.pitch import HOP, RATE, frame_count
from shared.perception.speakers import speaker_embedder
from shared.perception.stretches import stretches
from shared.perception.turns import Turns, diarise
from shared.utils.errors import UserError

Audio = NDArray[np.float32]
Spans = list[list[float]]

FRAME = HOP / RATE  # s


def find_turns(speech: Audio, rate: int, speakers: int, embedder: str) -> Turns:
    """Find up to so many speakers in [channels, N] at `rate` Hz. UserError as `check_embedder`."""
    mono = resample(torch.from_numpy(np.ascontiguousarray(speech.mean(0), np.float32)), rate, RATE).numpy()
    if not is_pipeline(embedder):
        return diarise(mono, speakers, speaker_embedder(embedder))
    voices = load_diariser(Path(embedder))(mono, speakers)
    active = np.zeros((len(voices), frame_count(len(mono))), bool)
    for row, spans in zip(active, voices, strict=True):
        for start, end in spans:
            row[round(start / FRAME) : round(end / FRAME)] = True
    active = active[active.any(1)]  # less than half a frame is nobody
    return Turns(active, active.sum(0) > 1)


def check_embedder(embedder: str) -> None:
    """Raise UserError as `load_diariser` where it is the folder of a pipeline, else as `speaker_embedder`."""
    if is_pipeline(embedder):
        load_diariser(Path(embedder))
    else:
        speaker_embedder(embedder)


def check_speakers(turns: Turns, speakers: int, what: str) -> None:
    """Raise UserError that names the sound by `what` unless so many speakers were found."""
    found = len(turns.active)
    if not found:
        raise UserError(f"{what}: nobody is heard to speak; --speakers {speakers} needs {speakers} voices in it")
    if found < speakers:
        heard = "one voice is" if found == 1 else f"{found} voices are"
        advice = "ask for as many, another --embedder, or give each person a file as --speech, --speech2"
        raise UserError(f"{what}: {heard} heard, --speakers asks for {speakers}; {advice}")


def split_speech(speech: Audio, rate: int, turns: Turns) -> list[Audio]:
    """Tracks of the speakers of `turns`, as `speech` [channels, N] at `rate` Hz. A pause is parted in its middle; there
    one track fades into another within a frame."""
    if not turns.active.any():
        return [speech]
    nearest = distance_transform_edt(~turns.active.any(0), return_distances=False, return_indices=True)[0]
    middles = (np.arange(turns.active.shape[1]) + 0.5) * FRAME * rate
    shares = [np.interp(np.arange(speech.shape[1]), middles, row[nearest].astype(float)) for row in turns.active]
    return [(speech * share).astype(np.float32) for share in shares]


def by_speaker(tracks: Tracks, turns: Turns) -> Tracks:
    """Give each speaker of `turns` a track of their own, of the one that `tracks` has."""
    (speech,) = tracks.speech
    parts = split_speech(speech.numpy(), tracks.rate, turns)
    return replace(tracks, speech=[torch.from_numpy(part) for part in parts])


def in_seconds(turns: Turns) -> dict[str, Spans]:
    """Stretches of each speaker, "speech1" ..., and "overlap", from and to seconds."""
    rows = {f"speech{k}": row for k, row in enumerate(turns.active, 1)} | {"overlap": turns.overlap}
    return {name: [[first * FRAME, end * FRAME] for first, end in stretches(row)] for name, row in rows.items()}


def describe(turns: Turns) -> list[str]:
    """Lines that say who speaks, from when on and how long, and where two voices sound at once."""
    spans = in_seconds(turns)
    overlap, lines = spans.pop("overlap"), []
    for person, theirs in enumerate(spans.values(), 1):
        seconds = sum(end - first for first, end in theirs)
        lines.append(f"Person{person} speaks from {theirs[0][0]:.2f} s on, {seconds:.1f} s in all")
    if overlap:
        times = ", ".join(f"{first:.2f}-{end:.2f}" for first, end in overlap)
        lines.append(f"warning: two voices at once at {times} s: they are not parted, both people get them")
    return lines
