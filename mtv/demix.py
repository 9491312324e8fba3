"""The clips of a manifest with their sound taken apart: OUTPUT/tracks/ID/{speech, effects, music}.wav."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from mtv.separation import TRACKS, Audio, Demixer, demixer
from shared.data.manifest import Clip, claim_folder
from shared.data.media import is_silent, probe, read_audio, write_audio
from shared.evaluation.separation import residual_dbfs, si_sdr
from shared.utils.errors import UserError
from shared.utils.markdown import markdown_table
from shared.utils.parallel import spread

SETTINGS_NAME = "demix.json"

Scores = dict[str, tuple[float, float | None]]
"""By track: SI-SDR of the estimate and of the mix in dB; or, where the truth is silence, what is left in dBFS, None."""


@dataclass(frozen=True)
class DemixerChoice:
    """A demixer by its name, and what its class is given."""

    name: str
    checkpoints: tuple[Path, ...] = ()
    device: str = "cpu"

    @property
    def settings(self) -> dict[str, Any]:
        """What decides about the tracks."""
        return {"demixer": self.name, "checkpoints": [str(path.resolve()) for path in self.checkpoints]}


@dataclass(frozen=True)
class Outcome:
    """What became of one clip: the clip with its new tracks, or the reason why there is none."""

    clip: Clip
    error: str = ""
    scores: Scores | None = None


def demix_clips(
    manifest: Path, clips: Sequence[Clip], output: Path, choice: DemixerChoice, workers: int, measure: bool
) -> Iterator[Outcome]:
    """Outcomes in the clips' order; files that are there already are kept, the manifest is left to the caller.

    With `measure` they are compared with the tracks that clips have.
    Raises UserError, before anything is written, as the demixer's class, and as `claim_folder`.
    """
    if measure and not any(map(_truth, clips)):
        raise UserError(f"{manifest}: no clip has tracks; --measure needs true ones to compare with")
    _demixer(choice)
    claim_folder(output, SETTINGS_NAME, {"manifest": str(manifest.resolve())} | choice.settings)
    return spread(partial(_process, output, choice, measure), clips, workers)


def scores_table(outcomes: Sequence[Outcome]) -> str:
    """Means over clips; a true track that is silent has no SI-SDR and is told by what is left on it."""
    head = ["track", "clips", "SI-SDR, dB (median)", "SI-SDR of the mix, dB", "silent clips", "left on them, dBFS"]
    rows = []
    for name in TRACKS:
        scored = [outcome.scores[name] for outcome in outcomes if outcome.scores and name in outcome.scores]
        ratios = [(found, mix) for found, mix in scored if mix is not None]
        left = [found for found, mix in scored if mix is None]
        cells = ["-", "-"]
        if ratios:
            found, mix = np.array(ratios).T
            cells = [f"{found.mean():.1f} ({np.median(found):.1f})", f"{mix.mean():.1f}"]
        silent = f"{np.mean(left):.1f}" if left else "-"
        rows.append([name, len(ratios), *cells, len(left), silent])
    return markdown_table(head, rows).rstrip()


@cache
def _demixer(choice: DemixerChoice) -> Demixer:
    """Made once; processes that are forked have it."""
    if choice.name == "dsp":
        return demixer("dsp")
    return demixer(choice.name, checkpoints=choice.checkpoints, device=choice.device)


def _process(output: Path, choice: DemixerChoice, measure: bool, clip: Clip) -> Outcome:
    """Separate one clip unless its files are there already, and measure it if wanted and possible."""
    try:
        files = _separated(output, choice, clip)
        scores = _measured(clip, files) if measure and _truth(clip) else None
    except UserError as error:
        return Outcome(clip, str(error))
    except Exception as error:  # one clip must not cost hours of others; it is reported and the exit code is 1
        return Outcome(clip, f"{type(error).__name__}: {error}")
    return Outcome(clip.model_copy(update={"tracks": files}), scores=scores)


def _separated(output: Path, choice: DemixerChoice, clip: Clip) -> dict[str, Path]:
    """Track files of `clip`; each appears when it is complete, so three files are a clip that is done."""
    if Path(clip.id).name != clip.id:
        raise UserError(f"the id {clip.id!r} cannot name a folder; an id without / is needed")
    files = {name: output / "tracks" / clip.id / f"{name}.wav" for name in TRACKS}
    if all(file.is_file() for file in files.values()):
        return files
    mix, rate = _mix(clip)
    tracks = _demixer(choice).separate(mix, rate)
    # start and end cut the tracks like the sound, so a track begins where its sound's file does
    before = ((0, 0), (round(clip.start * rate), 0))
    for name, track in tracks.items():
        write_audio(files[name], np.pad(np.zeros_like(track) if is_silent(track) else track, before), rate)
    return files


def _mix(clip: Clip) -> tuple[Audio, int]:
    """Sound of the clip between its start and end, [1 or 2, N], and its rate; more channels become their mean."""
    assert clip.audio is not None  # Clip guarantees it
    info = probe(clip.audio)
    if info.rate is None:
        raise UserError(f"{clip.audio}: has no sound; a clip with a sound track is needed")
    mono = (info.channels or 1) > 2
    return read_audio(clip.audio, info.rate, mono, clip.start, clip.end), info.rate


def _truth(clip: Clip) -> dict[str, list[Path]]:
    """Files of the clip's own tracks by name; the speakers' tracks together are the speech."""
    files: dict[str, list[Path]] = {}
    for name, path in clip.tracks.items():
        files.setdefault("speech" if name.startswith("speech") else name, []).append(path)
    return files


def _measured(clip: Clip, files: dict[str, Path]) -> Scores:
    """Mono, over the span that mix and truth share."""
    mix, rate = _mix(clip)
    mix = mix.mean(0, keepdims=True)
    scores: Scores = {}
    for name, paths in _truth(clip).items():
        parts = [read_audio(path, rate, True, clip.start, clip.end) for path in paths]
        estimate = read_audio(files[name], rate, True, clip.start, clip.end)
        count = min(sound.shape[1] for sound in (mix, estimate, *parts))
        truth = np.sum([part[:, :count] for part in parts], axis=0)
        if truth.any():
            scores[name] = si_sdr(estimate[:, :count], truth), si_sdr(mix[:, :count], truth)
        else:
            scores[name] = residual_dbfs(estimate[:, :count]), None
    return scores
