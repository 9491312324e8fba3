"""Scores of clips of the puppets (docs/design.md section 9), each as a pair (numerator, denominator).

Over clips both are summed, then divided, so micro-F1, means and accuracies aggregate and bootstrap alike; a clip on
which a score does not count has denominator 0.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.bootstrap import Ratio, interval, resample
from shared.evaluation.event_scores import TOLERANCE, best_times, match
from shared.puppets.lasting import lasting
from shared.puppets.readers import AudioReading, VideoReading, mouth_range
from shared.puppets.script import Spec, sample_spec
from shared.utils.rng import numpy_generator

Array = NDArray[np.float64]

SHUFFLES = 8

SYNC = ("event_f1", "event_f1_frame", "mouth_correlation", "speaker")
VIDEO_SCORES = ("colour", "shirt_colour", "object_colour", "object_size", "mood_video", "count_video")
AUDIO_SCORES = ("mood_audio", "count_audio")
BY_MUSIC = (*SYNC, *(name for name in VIDEO_SCORES if name != "mood_video"), "mood_followed")
SILENT = ("face_visible", "mouth_opening", "event_f1", "event_f1_frame", *VIDEO_SCORES)
SCORES = {
    "t2av": SYNC + VIDEO_SCORES + AUDIO_SCORES, "a2v": SYNC + VIDEO_SCORES, "v2a": SYNC + AUDIO_SCORES,
    "t2v": VIDEO_SCORES, "t2a": AUDIO_SCORES, "i2av": SYNC + VIDEO_SCORES + AUDIO_SCORES, "i2v": VIDEO_SCORES,
    "shots": SYNC + VIDEO_SCORES + AUDIO_SCORES, "part": SYNC + VIDEO_SCORES + AUDIO_SCORES,
    "part:given": SYNC + VIDEO_SCORES, "retake": SYNC + VIDEO_SCORES + AUDIO_SCORES,
    "mtv": SYNC + VIDEO_SCORES, "mtv:speech swapped": SYNC + VIDEO_SCORES, "mtv:effects swapped": SYNC + VIDEO_SCORES,
    "mtv:mood unmentioned": BY_MUSIC, "mtv:music swapped": BY_MUSIC, "mtv:silent speech": SILENT,
    "mtv:speaker unmentioned": SYNC + VIDEO_SCORES, "mtv:dsp": SYNC + VIDEO_SCORES,
    "mtv:text changed": SYNC + VIDEO_SCORES,
}  # fmt: skip
"""The scores of a task: what is given is not scored."""
FOLLOWED = {
    "mtv:speech swapped": ("mouth_correlation",), "mtv:effects swapped": ("event_f1", "event_f1_frame"),
    "mtv:silent speech": ("mouth_opening",), "mtv:text changed": ("colour", "shirt_colour", "object_colour"),
}  # fmt: skip
"""What a swapped track, or a changed text, alone moves. Its floor is the true picture of before the swap."""
MEANING = {
    "event_f1": "onsets in video and in audio, matched one to one within 0.1 s: F1 over all clips",
    "event_f1_frame": "the same within one video frame",
    "mouth_correlation": "mouth opening in pixels against loudness of speech, mean over speaking clips",
    "speaker": "of two faces, the mouth that moves with the speech is the one the caption names",
    "colour": "colours of shirts and objects as the caption has them",
    "shirt_colour": "colour of shirts as the caption has them",
    "object_colour": "colour of objects as the caption has it",
    "object_size": "size of objects as the caption has it",
    "mood_video": "light of the picture as the caption has it",
    "mood_followed": "light of the picture as the music has it (major is warm, fast is bright), which alone tells it",
    "face_visible": "faces that are there, of those that the caption names",
    "mouth_opening": "mean opening of the mouths of the faces that are there, 0 shut and 1 wide open",
    "mood_audio": "pace of the music (bright is fast, dark is slow) as the caption has it",
    "count_video": "number of onsets in the video, where the caption mentions it",
    "count_audio": "number of onsets in the audio, where the caption mentions it",
}


@dataclass(frozen=True)
class ClipReading:
    """One clip to be scored: its script and what was read from its picture and its sound."""

    spec: Spec
    video: VideoReading
    audio: AudioReading


Readings = Sequence[ClipReading]


@dataclass(frozen=True)
class Score:
    """A score over clips. `headline` = (value - floor) / (ceiling - floor); intervals are 95 % bootstrap intervals over
    clips, in which value, ceiling and floor are resampled together. None where no clip counts."""

    value: float | None
    ceiling: float | None
    floor: float | None
    headline: float | None
    value_interval: list[float] | None
    headline_interval: list[float] | None
    clips: int


def score_task(task: str, sampled: Readings, true: Readings, seed: int = 0, before: Readings = ()) -> dict[str, Score]:
    """All scores of a task, one of `SCORES`, from readings of the generated clips.

    `true`, of the same scripts through the codecs, gives the ceiling and, with another clip's sound (event and mouth)
    or caption (accuracies), the floor. `before`: the true picture of before a swapped track with the sound of after,
    the floor of what `FOLLOWED` the track.
    """
    names = SCORES[task]
    own, best = (table([clip_scores(reading) for reading in readings], names) for readings in (sampled, true))
    chance = table(floor_scores(true), names)
    if before:
        chance |= table([clip_scores(reading) for reading in before], FOLLOWED.get(task, ()))
    picks = resample(numpy_generator(seed, "bootstrap"), len(sampled))
    return {name: score_over_clips(own[name], best[name], chance[name], picks) for name in names}


def clip_scores(reading: ClipReading) -> dict[str, Ratio]:
    """Every score of one clip as (numerator, denominator)."""
    still = {} if _has_speech(reading.spec) else face_scores(reading.video, reading.spec.style)
    return {**sync_scores(reading), **caption_scores(reading, reading.spec), **still}


def floor_scores(readings: Readings) -> list[dict[str, Ratio]]:
    """Scores by chance, per clip: sums over up to SHUFFLES partners. A clip's picture meets the sounds of other clips
    that have events (or speech) as well, and its readings their captions; equal lengths first, a longer one is cut."""
    floors: list[dict[str, Ratio]] = []
    for i, own in enumerate(readings):
        length = own.spec.duration
        others = sorted([*readings[i + 1 :], *readings[:i]], key=lambda other: abs(other.spec.duration - length))
        sums = defaultdict(lambda: np.zeros(2), {name: np.zeros(2) for name in SYNC})  # there may be no partner
        for want, names in ((_has_events, SYNC[:2]), (_has_speech, SYNC[2:])):
            for other in [o for o in others if want(o.spec) and want(own.spec)][:SHUFFLES]:
                audio = replace(other.audio, onsets=other.audio.onsets[other.audio.onsets < length])
                scores = sync_scores(replace(own, audio=audio))
                for name in names:
                    sums[name] += scores[name]
        for other in others[:SHUFFLES]:
            for name, pair in caption_scores(own, other.spec).items():
                sums[name] += pair
        floors.append({name: (float(pair[0]), float(pair[1])) for name, pair in sums.items()})
    return floors


def sync_scores(reading: ClipReading) -> dict[str, Ratio]:
    """Picture against sound. Events count where every object is visible, mouths where every speaker is."""
    spec, video, audio = reading.spec, reading.video, reading.audio
    pairs = dict.fromkeys(SYNC, (0.0, 0.0))
    if all(prop.visible for prop in spec.props):
        total = float(len(video.onsets) + len(audio.onsets))
        pairs["event_f1"] = (2.0 * len(match(video.onsets, audio.onsets, TOLERANCE)), total)
        pairs["event_f1_frame"] = (2.0 * len(match(video.onsets, audio.onsets, 1 / video.fps)), total)
    speakers = [c for c in spec.characters if c.syllables]
    if speakers and all(c.visible for c in speakers):
        times = np.arange(len(video.mouths[0])) / video.fps
        loudness = audio.loudness_at(times)
        pairs["mouth_correlation"] = (correlation(np.sum(video.mouths, 0), loudness), 1.0)
        if len(speakers) == 1 and len(video.mouths) == 2:
            moves = [float(np.cov(mouth, loudness)[0, 1]) for mouth in video.mouths]
            visible = [c for c in spec.characters if c.visible]
            pairs["speaker"] = (float(visible[int(np.argmax(moves))] is speakers[0]), 1.0)
    return pairs


def caption_scores(reading: ClipReading, spec: Spec) -> dict[str, Ratio]:
    """Compare readings of a clip with what the caption of `spec` (its own, or for the floor another's) mentions."""
    video, audio = reading.video, reading.audio
    people = list(zip(video.people, [c for c in spec.characters if c.visible], strict=False))
    objects = list(zip(video.objects, [p for p in spec.props if p.visible], strict=False))
    shirts = [t.found and t.colour == c.shirt for t, c in people if "shirt" in c.mentioned]
    colours = [t.found and t.colour == p.colour for t, p in objects if "colour" in p.mentioned]
    counted = bool(spec.props) and all("count" in prop.mentioned for prop in spec.props)
    count, light = sum(len(prop.onsets) for prop in spec.props), [video.mood == spec.mood]
    right = {
        "shirt_colour": shirts, "object_colour": colours, "colour": shirts + colours,
        "object_size": [t.found and t.size == p.size for t, p in objects if "size" in p.mentioned],
        "mood_video": light if spec.mood_mentioned else [],
        "mood_followed": light if spec.music and not spec.mood_mentioned else [],
        "mood_audio": [audio.pace == spec.mood.split()[1]] if spec.mood_mentioned and spec.music else [],
        "count_audio": [len(audio.onsets) == count] if counted else [],
        "count_video": [len(video.onsets) == count] if counted and _has_events(spec) else [],
    }  # fmt: skip
    return {name: (float(sum(clips)), float(len(clips))) for name, clips in right.items()}


def face_scores(video: VideoReading, style: str = "stage") -> dict[str, Ratio]:
    """Faces that should be silent: how many of them are there, and the mean opening of the mouths of those that are."""
    shut, wide = mouth_range(video.mood, style)
    mouths = [mouth for mouth, face in zip(video.mouths, video.people, strict=True) if face.found]
    openings = [float(np.maximum(0, (mouth - shut) / (wide - shut)).mean()) for mouth in mouths]
    there = float(len(mouths))
    return {"face_visible": (there, float(len(video.people))), "mouth_opening": (sum(openings), there)}


def correlation(first: Array, second: Array) -> float:
    """Pearson's r; 0 where a curve is constant or not finite."""
    if not (np.ptp(first) > 1e-6 and np.ptp(second) > 1e-6):
        return 0.0
    r = float(np.corrcoef(first, second)[0, 1])
    return r if np.isfinite(r) else 0.0


def lags(readings: Readings) -> dict[str, float | None]:
    """Mean of (video - audio) in ms over matched events: all, and by the third of the clip in which they sound."""
    by_part: dict[str, list[float]] = {"all": [], "first third": [], "second third": [], "last third": []}
    for reading in readings:
        for video, audio in match(reading.video.onsets, reading.audio.onsets, TOLERANCE):
            third = ("first third", "second third", "last third")[min(2, int(3 * audio / reading.spec.duration))]
            for name in ("all", third):
                by_part[name].append(1000 * (video - audio))
    return {name: float(np.mean(values)) if values else None for name, values in by_part.items()}


def fixed_times_f1(specs: Sequence[Spec], level: str, seed: int = 0, clips: int = 512) -> float | None:
    """F1 of fixed times against the true events of `specs`: the best guess without looking or listening. The times
    are chosen greedily, per duration, on `clips` other scripts of the level, for the best micro-F1 there."""
    hits = total = 0
    for spec in (spec for spec in specs if _has_events(spec)):
        guess = _best_times(spec.duration, level, seed, clips)
        hits += 2 * len(match(guess, events(spec), TOLERANCE))
        total += len(guess) + len(events(spec))
    return hits / total if total else None


def events(spec: Spec) -> Array:
    """All onsets of a script in seconds, ascending."""
    return np.array(sorted(onset for prop in spec.props for onset in prop.onsets))


@cache
def _best_times(duration: float, level: str, seed: int, count: int) -> Array:
    scripts = _scripts(level, seed, count)
    scripts = [lasting(s, round(duration)) for s in scripts] if level == "simple" else scripts
    clips = [events(s) for s in scripts if s.duration == duration and s.props]
    return best_times(clips, duration)


@cache
def _scripts(level: str, seed: int, count: int) -> list[Spec]:
    return [sample_spec(seed, index, level) for index in range(count)]


def _has_events(spec: Spec) -> bool:
    return bool(spec.props) and all(prop.visible for prop in spec.props)


def _has_speech(spec: Spec) -> bool:
    return any(character.syllables for character in spec.characters)


def table(clips: Sequence[dict[str, Ratio]], names: Sequence[str]) -> dict[str, Array]:
    """Collect the pairs of all clips, [clips, 2], by score; (0, 0) for a clip without it."""
    return {name: np.array([clip.get(name, (0.0, 0.0)) for clip in clips]) for name in names}


def score_over_clips(sampled: Array, true: Array, floor: Array, picks: NDArray[np.int_]) -> Score:
    """Score of pairs [clips, 2] of the sampled and the true clips and of chance, with intervals over `picks`."""
    everyone = np.arange(len(sampled))[None]
    value, ceiling, chance = (_ratio(pairs, everyone)[0] for pairs in (sampled, true, floor))
    spread = [_ratio(pairs, picks) for pairs in (sampled, true, floor)]
    return Score(
        _number(value), _number(ceiling), _number(chance), _number(_headline(value, ceiling, chance)),
        interval(spread[0]), interval(_headline(*spread)), int((sampled[:, 1] > 0).sum()),
    )  # fmt: skip


def ratio_to_true(sampled: Array, true: Array, picks: NDArray[np.int_]) -> dict[str, Any]:
    """Value of pairs [clips, 2] of sampled clips over that of the true ones, `of_true`, with its interval."""
    everyone = np.arange(len(sampled))[None]

    def ratio(which: NDArray[np.int_]) -> Array:
        own, best = _ratio(sampled, which), _ratio(true, which)
        return np.divide(own, best, out=np.full(len(own), np.nan), where=best > 0)

    return {"of_true": _number(ratio(everyone)[0]), "of_true_interval": interval(ratio(picks))}


def _ratio(pairs: Array, picks: NDArray[np.int_]) -> Array:
    sums = pairs[picks].sum(1)
    return np.divide(sums[:, 0], sums[:, 1], out=np.full(len(sums), np.nan), where=sums[:, 1] > 0)


def _headline(value: Array, ceiling: Array, floor: Array) -> Array:
    room = ceiling - floor
    return np.divide(value - floor, room, out=np.full_like(np.asarray(value), np.nan), where=np.abs(room) > 1e-9)


def _number(value: Array | float) -> float | None:
    return float(value) if np.isfinite(value) else None
