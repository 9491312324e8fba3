"""The clips of a manifest with their sound taken apart: OUTPUT/tracks/ID/{speech, effects, music}.wav; where several
people are told apart {speech1, speech2, ...}.wav in the place of the first."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mtv.separation import TRACKS, Audio, Demixer, demixer
from shared.data.clip_key import clip_key
from shared.data.manifest import Clip, claim_folder
from shared.data.media import is_silent, probe, read_audio, write_audio
from shared.utils.errors import UserError
from shared.utils.files import read_json, write_atomically, write_json
from shared.utils.markdown import markdown_table
from shared.utils.parallel import spread
from shared.utils.portable import portable

if TYPE_CHECKING:
    from mtv.demix_speakers import SpeakerScore

EMBEDDER = "resemblyzer"
TURNS = "turns.json"
LEAST_DB, MOST_DB = -100.0, 100.0  # scores are held between these, so that means over clips stay finite

Scores = dict[str, tuple[float, float | None]]
"""By track: SI-SDR of the estimate and of the mix in dB; or, where the truth is silence, what is left in dBFS, None.
Tracks of a second demixer have its name behind theirs."""


Spans = list[list[float]]
"""From and to seconds."""


class DemixerChoice(NamedTuple):
    """A demixer by its name, and what its class is given; `speakers`: the most people who speak in a clip, each of whom
    gets a track by the `embedder` of that name; None: speech is one track. `second`: a demixer without checkpoints that
    is measured beside it."""

    name: str
    checkpoints: tuple[Path, ...] = ()
    device: str = "cpu"
    speakers: int | None = None
    embedder: str = EMBEDDER
    second: str | None = None


class Outcome(NamedTuple):
    """What became of one clip: the clip with its new tracks, or the reason why there is none; `heard`: who speaks when,
    where that was asked, and `speakers` how that agrees with the truth."""

    clip: Clip
    error: str = ""
    scores: Scores | None = None
    heard: dict[str, Spans] | None = None
    speakers: SpeakerScore | None = None


def demix_clips(
    manifest: Path, clips: Sequence[Clip], output: Path, choice: DemixerChoice, workers: int, measure: bool
) -> Iterator[Outcome]:
    """Yield outcomes in the clips' order; files that are there are kept. UserError before anything is written."""
    if measure and not any(map(_truth, clips)):
        raise UserError(f"{manifest}: no clip has tracks; --measure needs true ones to compare with")
    _demixer(choice)
    if choice.second is not None:
        _demixer(DemixerChoice(choice.second))
    if choice.speakers is not None:
        from mtv.speakers import check_embedder

        check_embedder(choice.embedder)
    read = [os.path.relpath(path.resolve(), output.resolve()) for path in (manifest, *choice.checkpoints)]
    settings = {
        "manifest": portable(manifest.resolve()), "demixer": choice.name,
        "checkpoints": [portable(path.resolve()) for path in choice.checkpoints],
        "places": hashlib.sha256("\n".join(read).encode()).hexdigest()[:12],  # tells files of one name apart
    }  # fmt: skip
    if choice.speakers is not None:
        settings |= {"speakers": choice.speakers, "embedder": portable(choice.embedder)}
    claim_folder(output, "demix.json", settings)
    return spread(partial(_process, output, choice, measure), clips, workers)


def scores_table(outcomes: Sequence[Outcome]) -> str:
    """Tell means over clips; a true track that is silent has no SI-SDR and is told by what is left on it."""
    head = ["track", "clips", "SI-SDR, dB (median)", "SI-SDR of the mix, dB", "silent clips", "left on them, dBFS"]
    rows = []
    found = {name: None for outcome in outcomes for name in outcome.scores or ()}
    for name in dict.fromkeys(TRACKS) | found:
        scored = [outcome.scores[name] for outcome in outcomes if outcome.scores and name in outcome.scores]
        left = [score for score, mix in scored if mix is None]
        cells, silent = ["-", "-"], f"{np.mean(left):.1f}" if left else "-"
        if ratios := [(score, mix) for score, mix in scored if mix is not None]:
            score, mix = np.array(ratios).T
            cells = [f"{score.mean():.1f} ({np.median(score):.1f})", f"{mix.mean():.1f}"]
        rows.append([name, len(ratios), *cells, len(left), silent])
    return markdown_table(head, rows).rstrip()


def si_sdr(estimate: ArrayLike, truth: ArrayLike) -> float:
    """Scale-invariant signal-to-distortion ratio in dB of two signals of one shape, e.g. [channels, N].

    With a = <estimate, truth> / |truth|²: 10 log10(|a truth|² / |estimate − a truth|²) (Le Roux et al., ICASSP 2019,
    arXiv 1811.02508, equation 3; no mean is subtracted). An estimate of zeros scores LEAST_DB.
    ValueError if the shapes differ, or if `truth` is zeros: see `residual_dbfs` for that case.
    """
    signal, wanted = np.asarray(estimate, np.float64), np.asarray(truth, np.float64)
    if signal.shape != wanted.shape:
        raise ValueError(f"estimate {signal.shape} and truth {wanted.shape} need one shape")
    energy = float((wanted**2).sum())
    if energy == 0:
        raise ValueError("the true signal is all zeros, SI-SDR is not defined; residual_dbfs measures what is left")
    target = float((signal * wanted).sum()) / energy * wanted
    return _ratio_db(float((target**2).sum()), float(((signal - target) ** 2).sum()))


def residual_dbfs(estimate: ArrayLike) -> float:
    """RMS level in dB of full scale of what was found on a track whose truth is silence; at least LEAST_DB."""
    return _ratio_db(float((np.asarray(estimate, np.float64) ** 2).mean()), 1.0)


def _ratio_db(signal: float, rest: float) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = 10 * np.log10(np.float64(signal) / np.float64(rest))
    return LEAST_DB if signal == 0 else float(np.clip(ratio, LEAST_DB, MOST_DB))


def separated(name: str, checkpoints: Sequence[Path], device: str, mix: Audio, rate: int) -> dict[str, Audio]:
    """`TRACKS` by name of a mix float32 [1 or 2, N], by the demixer of that name. UserError as `demixer`."""
    return dict(_demixer(DemixerChoice(name, tuple(checkpoints), device)).separate(mix, rate).items())


@cache
def _demixer(choice: DemixerChoice) -> Demixer:
    """Made once; processes that are forked have it."""
    takes = {"dsp": {}, "spleeter": {"device": choice.device}}
    return demixer(choice.name, **takes.get(choice.name, {"checkpoints": choice.checkpoints, "device": choice.device}))


def _process(output: Path, choice: DemixerChoice, measure: bool, clip: Clip) -> Outcome:
    try:
        files, heard = _separated(output, choice, clip)
        scores = _measured(clip, files, choice.second) if measure and _truth(clip) else None
        speakers = _compared(clip, heard) if measure and heard is not None else None
    except UserError as error:
        return Outcome(clip, str(error))
    except Exception as error:  # one clip must not cost hours of others; it is reported and the exit code is 1
        return Outcome(clip, f"{type(error).__name__}: {error}")
    return Outcome(clip.model_copy(update={"tracks": files}), "", scores, heard, speakers)


def _separated(output: Path, choice: DemixerChoice, clip: Clip) -> tuple[dict[str, Path], dict[str, Spans] | None]:
    """Track files of `clip` and who speaks when, kept where all are whole and `mix.key`, written last, says that its
    sound is as it was."""
    if Path(clip.id).name != clip.id or clip.id == "..":
        raise UserError(f"the id {clip.id!r} cannot name a folder; an id without / is needed")
    folder = output / "tracks" / clip.id
    assert clip.audio is not None  # Clip guarantees it
    key_file, key = folder / "mix.key", clip_key(clip, [clip.audio], [])
    if key_file.is_file() and key_file.read_bytes() == key.encode():
        heard = None if choice.speakers is None else read_json(folder / TURNS)
        files = _files(folder, heard)
        if all(map(_is_whole, files.values())):
            return files, heard
    key_file.unlink(missing_ok=True)
    mix, rate = _mix(clip)
    tracks, heard = dict(_demixer(choice).separate(mix, rate).items()), None
    if choice.speakers is not None:
        tracks, heard = _by_speaker(tracks, rate, choice.speakers, choice.embedder)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / TURNS, heard)
    # start and end cut the tracks like the sound, so a track begins where its sound's file does
    before = ((0, 0), (round(clip.start * rate), 0))
    files = _files(folder, heard)
    for name, file in files.items():
        track = tracks[name]
        silent = is_silent(track) and not name[-1].isdigit()  # a speaker who says little is no silence
        write_audio(file, np.pad(np.zeros_like(track) if silent else track, before), rate)
    write_atomically(key_file, key)
    return files, heard


def _by_speaker(
    tracks: dict[str, Audio], rate: int, speakers: int, embedder: str
) -> tuple[dict[str, Audio], dict[str, Spans]]:
    """Tracks with "speech1", "speech2" ... of up to so many people, and who speaks when; nobody in a silent track."""
    from mtv.speakers import find_turns, in_seconds, split_speech

    speech = tracks["speech"]
    turns = find_turns(np.zeros_like(speech) if is_silent(speech) else speech, rate, speakers, embedder)
    people = {f"speech{k}": part for k, part in enumerate(split_speech(speech, rate, turns), 1)}
    return tracks | people, in_seconds(turns)


def _compared(clip: Clip, heard: dict[str, Spans]) -> SpeakerScore | None:
    from mtv.demix_speakers import measure_speakers

    return measure_speakers(clip, heard)


def _files(folder: Path, heard: dict[str, Spans] | None) -> dict[str, Path]:
    """Track files in a clip's folder: where several people are heard to speak, one for each."""
    people = [name for name in heard or {} if name != "overlap"]
    speech = people if len(people) > 1 else TRACKS[:1]
    return {name: folder / f"{name}.wav" for name in (*speech, *TRACKS[1:])}


def _is_whole(track: Path) -> bool:
    """Whether a track is there as long as its header says."""
    try:
        return probe(track).has_audio
    except UserError:
        return False


def _mix(clip: Clip) -> tuple[Audio, int]:
    """Sound of the clip between its start and end, [1 or 2, N], and its rate; more channels become one."""
    assert clip.audio is not None  # Clip guarantees it
    info = probe(clip.audio, clip.audio_track)
    if info.rate is None:
        raise UserError(f"{clip.audio}: has no sound; a clip with a sound track is needed")
    mono = (info.channels or 1) > 2
    return read_audio(clip.audio, info.rate, mono, clip.start, clip.end, clip.audio_track), info.rate


def _truth(clip: Clip) -> dict[str, list[Path]]:
    """Files of the clip's own tracks by name; the speakers' tracks together are the speech."""
    files: dict[str, list[Path]] = {}
    for name, path in clip.tracks.items():
        files.setdefault("speech" if name.startswith("speech") else name, []).append(path)
    return files


def _measured(clip: Clip, files: dict[str, Path], second: str | None) -> Scores:
    """Mono, over the span that estimate, mix and truth share."""
    mix, rate = _mix(clip)

    def read(paths: Sequence[Path]) -> Audio:
        return _sum([read_audio(path, rate, True, clip.start, clip.end) for path in paths])

    truth = {name: read(paths) for name, paths in _truth(clip).items()}
    found = {name: read([file for track, file in files.items() if track.startswith(name)]) for name in truth}
    scores = {name: _score(found[name], track, mix) for name, track in truth.items()}
    if second is not None:
        theirs = separated(second, (), "cpu", mix, rate)
        scores |= {f"{name}, {second}": _score(theirs[name], truth[name], mix) for name in TRACKS if name in truth}
    return scores


def _score(estimate: Audio, truth: Audio, mix: Audio) -> tuple[float, float | None]:
    count = min(sound.shape[1] for sound in (estimate, truth, mix))
    ours, true, whole = (sound.mean(0, keepdims=True)[:, :count] for sound in (estimate, truth, mix))
    return (si_sdr(ours, true), si_sdr(whole, true)) if true.any() else (residual_dbfs(ours), None)


def _sum(sounds: Sequence[Audio]) -> Audio:
    """Sum of mono sounds, as long as the shortest."""
    count = min(sound.shape[1] for sound in sounds)
    total: Audio = np.sum([sound[:, :count] for sound in sounds], axis=0)
    return total
