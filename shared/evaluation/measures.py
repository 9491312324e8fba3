"""Measures that cannot be had by agreeing on nothing: clips against what is told of them and against their own drawing.

Beside each stand the ceiling, true clips through the codecs, and a floor from the model's own clips: with another
clip's sound or caption, against another clip's drawing, with their blocks shuffled, or with flat cells. A measure of
fewer than LEAST_CLIPS clips is not shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import numpy as np

from shared.evaluation.blocks import Cell, block_scores
from shared.evaluation.bootstrap import Ratio, per_clip, resample
from shared.evaluation.event_scores import NAMES as EVENTS
from shared.evaluation.event_scores import agreement, event_scores, fixed_times_agreement
from shared.evaluation.fakes import shuffled_blocks
from shared.evaluation.scores import correlation, ratio_to_true, score_over_clips, table
from shared.evaluation.told_scores import BELIEFS, HEARD, SEEN, belief_scores, count_scores, heard_scores, seen_scores
from shared.evaluation.validity import NAMES as PICTURE
from shared.evaluation.validity import Limits, SceneReading, limits, picture_scores, validity
from shared.puppets.clip import told_by_captions
from shared.puppets.readers import AudioReading
from shared.puppets.script import Spec
from shared.puppets.vowels import vowel_agreement
from shared.utils.rng import numpy_generator

LEAST_CLIPS = 30
SHUFFLES = 4
"""Other clips that each clip meets for the floor."""


class Measure(NamedTuple):
    """What it says, and what would fool it."""

    meaning: str
    fooled_by: str


_REGION = {"objects": "objects and their sparks", "people": "people", "rest": "the rest of the stage"}
MEASURES = {
    "validity": Measure(
        "clip against the drawing of the script that fits it, 0 at another clip's drawing and 1 at true clips through "
        "the codec, in dB; the lowest of objects, people and rest",
        "a still picture, or one in which nothing that was told happens: events and speaker find that",
    ),
    **{
        f"blockiness_{region}": Measure(
            f"gradient across the codec's cells over that inside them, in {what}; 1: as in the drawing",
            "blur: sharpness finds that",
        )
        for region, what in _REGION.items()
    },
    **{
        f"sharpness_{region}": Measure(
            f"gradient energy inside the codec's cells, in {what}, against the drawing's, the lesser over the greater",
            "noise of just the energy that blur took away: validity finds that",
        )
        for region, what in _REGION.items()
    },
    **{
        f"energy_{region}": Measure(
            f"gradient energy inside the codec's cells, in {what}, over the drawing's; best as true clips have it",
            "noise in place of what is drawn: sharpness and validity find that",
        )
        for region, what in _REGION.items()
    },
    "event_precision": Measure(
        "events seen and heard within 0.1 s, at most as many as told, of the onsets of the stream that has more",
        "a clip with a single sure event: recall finds that",
    ),
    "event_recall": Measure(
        "the same, of the events that are told; where no number is told, whether there is one",
        "events without end: precision finds that",
    ),
    "events": Measure(
        "harmonic mean of precision and recall, clip by clip; where nothing is told to happen, whether nothing does",
        "right numbers at times that every clip has: agreement beside its fixed times finds that",
    ),
    "once": Measure(
        "clips that tell a single event, in which each stream that is made has one at least; floor: nothing happens",
        "events without end: precision finds that",
    ),
    "agreement": Measure(
        "onsets seen and heard within 0.1 s of each other: F1 over all clips",
        "fixed times, which the floor of own clips shuffled then reaches as well",
    ),
    "mouth_agreement": Measure(
        "opening of the mouths against the loudness of speech: mean correlation over clips with visible speakers",
        "mouths that all move, whoever speaks: speaker finds that",
    ),
    "vowels": Measure(
        "syllables heard whose vowel is formed by the mouth that is open then, of all that are heard from visible "
        "speakers",
        "one vowel all the time, which the floor of own clips shuffled then reaches as well",
    ),
    "speaker": Measure("people whose mouth moves if they are told to speak, and does not if they are not",
                       "mouths that move at other times than the speech: mouth_agreement finds that"),
    "count": Measure("clips in which every number told is right in every stream that is made",
                     "right numbers, seen and heard at different times: events find that"),
    "count_seen": Measure("objects that are seen to sound as often as told", "the sound: count_heard is of that"),
    "count_heard": Measure("clips with as many onsets heard as told", "the picture: count_seen is of that"),
    "pace": Measure("music as fast as told", "two answers: its floor is near a half"),
    "mode": Measure("music in major or minor as told", "two answers: its floor is near a half"),
    "voice": Measure("voices of men or of women as told, where all who speak are one or the other",
                     "a voice without a mouth: mouth_agreement and vowels find that"),
    "kind": Measure("objects of the kind told; one that nobody asked for is wrong",
                    "a picture that has little of the object: validity finds that"),
    "size": Measure("objects of the size told", "two answers: its floor is near a half"),
    "colour": Measure("objects of the colour told",
                      "a smear of that colour at the object's place: validity finds that"),
    "gender": Measure("people that are a man or a woman as told; one that nobody asked for is wrong",
                      "hair alone: validity finds a face that is not there"),
    "side": Measure("people and objects on the side told", "few answers: its floor is near a half"),
    "shirt": Measure("people with a shirt of the colour told", "a smear of that colour: validity finds that"),
    "binding": Measure("of two or more people or objects, those with all that is told of them",
                       "the right looks on the wrong one are what it is for; a single person does not count"),
    "drifting": Measure("clouds and balloons that are told and drift by, balloons in the colour told",
                        "one that drifts by in every clip: where none is told, it costs nothing"),
    "text_believed": Measure("light, objects and people that are made as the text has them, where what is given "
                             "contradicts it", "a model that cannot hear: given_believed beside it finds that"),
    "given_believed": Measure("the same as what is given has them",
                              "a model that does not read: text_believed beside it finds that"),
    "light": Measure("light of the picture as told", "the wall alone: it says nothing of what stands before it"),
    "looks": Measure("kinds, sizes, colours, sides, people, shirts and light as told, of all that is told of them",
                     "all right but one thing, always the same: the measure of that thing finds it"),
    "all_looks": Measure("clips in which all of these that are told are right",
                         "right things that are not where it sounds: agreement finds that"),
}  # fmt: skip
OF_TRUE = ("blockiness", "energy")
"""First words of measures of which the codec has its own part; so they are compared with the true clips' as well."""
BOTH = ("agreement", "mouth_agreement", "vowels")
NOT_SIMPLE, ONLY_SHOWS = ("drifting",), ("vowels", "mode", "voice")
"""Measures of what the other levels do not have."""


class SceneClip(NamedTuple):
    """One clip to be measured: its script, of which only what the caption tells is used, and its two streams as read
    without it."""

    spec: Spec
    scene: SceneReading
    audio: AudioReading


class Streams(NamedTuple):
    """What a task makes, and what there is, made or given."""

    made: frozenset[str]
    there: frozenset[str]


def streams(task: str) -> Streams:
    """Which of "video" and "audio" a task makes and has, for all that there are: t2av .. v2a, shots, part, retake, mtv
    and its variants."""
    both, video, audio = frozenset(("video", "audio")), frozenset(("video",)), frozenset(("audio",))
    single = {"t2v": video, "i2v": video, "t2a": audio}
    if task in single:
        return Streams(single[task], single[task])
    return Streams(
        {"t2av": both, "i2av": both, "shots": both, "part": both, "retake": both, "v2a": audio}.get(task, video), both
    )


def names(task: str, level: str, conflict: bool = False) -> tuple[str, ...]:
    """Measures of a task on a level, in order: what is given is not measured, but against what is made. `conflict`:
    texts contradict it."""
    made, there = streams(task)
    chosen = {*EVENTS, "count", "once"} | (set(BOTH) if len(there) == 2 else set())
    chosen |= {*SEEN, *PICTURE} if "video" in made else set()
    chosen |= {*HEARD} if "audio" in made else set()
    chosen |= {*BELIEFS} if conflict and made != there else set()
    chosen -= {*ONLY_SHOWS} if level != "shows" else set()
    chosen -= {*NOT_SIMPLE} if level == "simple" else set()
    return tuple(name for name in MEASURES if name in chosen)


def clip_measures(
    task: str, reading: SceneClip, between: Limits, cell: Cell, caption: SceneClip | None = None
) -> dict[str, Ratio]:
    """Every measure of one clip as (numerator, denominator). `caption`: the clip whose caption tells, for the floor."""
    made, there = streams(task)
    spec = (caption or reading).spec
    told = told_by_captions(spec)
    scores: dict[str, Ratio] = {}
    seen = reading.scene.fit.onsets if "video" in there else None
    heard = reading.audio.onsets if "audio" in there else None
    if seen is None or told.events_are_visible:
        onsets = sum(len(prop.onsets) for prop in spec.props)
        count = told.count if made == there else onsets  # what is given has its number, told or not
        scores |= event_scores(count, bool(told.objects), seen, heard)
        if seen is not None and heard is not None:
            scores["agreement"] = agreement(seen, heard)
        if told.count == 1:
            streams_made = [some for name, some in (("video", seen), ("audio", heard)) if name in made]
            scores["once"] = float(all(some is not None and len(some) for some in streams_made)), 1.0
    if len(there) == 2 and told.speech_is_visible:
        scores["mouth_agreement"] = mouth_agreement(reading), 1.0
        hits, count = vowel_agreement(reading.scene.fit.formed, reading.audio.syllables)
        scores["vowels"] = float(hits), float(max(1, count))  # silence agrees with nothing
    if "video" in made:
        scores |= seen_scores(told, reading.scene.fit)
        if caption is None:
            scores |= picture_scores(reading.scene, told, between, cell)
    if "audio" in made:
        scores |= heard_scores(told, reading.audio)
    fit, audio = reading.scene.fit if "video" in made else None, reading.audio if "audio" in made else None
    if spec.caption_overrides and made != there:
        scores |= belief_scores(spec, fit, audio)
    return scores | count_scores(told, fit, audio)


def mouth_agreement(reading: SceneClip) -> float:
    """Correlation of the opening of all mouths together with the loudness of speech; 0 without a face."""
    fit = reading.scene.fit
    mouths = np.sum([np.zeros(fit.spec.frames), *fit.openings], 0)
    return correlation(mouths, reading.audio.loudness_at(fit.spec.frame_times()))


def floor_measures(task: str, readings: Sequence[SceneClip], between: Limits, cell: Cell) -> list[dict[str, Ratio]]:
    """Measure by chance, per clip: sums over up to SHUFFLES other clips of the same length, or of the nearest if none
    is, cut to it. Clips of which events (or speech) are told meet the sounds of each other, and so do the rest."""
    (made, there), floors = streams(task), []
    groups = ({"agreement", *EVENTS}, _sounds), ({"mouth_agreement", "vowels"}, _speaks)
    compared = groups if len(there) == 2 else ()
    wanted = _names(task, readings)
    by_caption = {*wanted} - {name for group, _ in compared for name in group}
    for i, own in enumerate(readings):
        others = [*readings[i + 1 :], *readings[:i]]
        length = own.spec.duration
        others = [o for o in others if o.spec.duration == length] or sorted(others, key=lambda o: _apart(o, length))
        sums = {name: np.zeros(2) for name in wanted}
        for other in others[:SHUFFLES]:
            scores = clip_measures(task, own, between, cell, other)
            for name in by_caption & scores.keys():
                sums[name] += scores[name]
        for group, told in compared:
            for other in [o for o in others if told(o.spec) == told(own.spec)][:SHUFFLES]:
                audio = replace(other.audio, onsets=other.audio.onsets[other.audio.onsets < length])
                mixed = clip_measures(task, own._replace(audio=audio), between, cell, own)
                for name in sums.keys() & mixed.keys() & group:
                    sums[name] += mixed[name]
        if "video" in made:
            torn, _ = shuffled_blocks(own.spec, own.scene.frames, np.zeros(0, np.float32))
            blocks = block_scores(torn, own.scene.drawing, own.scene.masks, cell)
            # a flat cell has no gradient inside
            flat = [name for name in blocks if name.startswith(("sharpness", "energy"))]
            sums |= {name: np.array((0.0 if name in flat else pair[0], pair[1])) for name, pair in blocks.items()}
            for other in others[:1]:
                sums["validity"] += validity(own.scene, told_by_captions(own.spec), between, other.scene)
        if "once" in sums:
            sums["once"] = np.array((0.0, told_by_captions(own.spec).count == 1))
        floors.append({name: (float(above), float(below)) for name, (above, below) in sums.items()})
    return floors


def _names(task: str, readings: Sequence[SceneClip]) -> tuple[str, ...]:
    conflict = any(reading.spec.caption_overrides for reading in readings)
    return names(task, readings[0].spec.level if readings else "", conflict)


def _apart(other: SceneClip, seconds: float) -> float:
    return abs(other.spec.duration - seconds)


def _sounds(spec: Spec) -> bool:
    return bool(spec.props)


def _speaks(spec: Spec) -> bool:
    return any(character.syllables for character in spec.characters)


def measure_clips(
    task: str, sampled: Sequence[SceneClip], true: Sequence[SceneClip], numbers: Sequence[int], cell: Cell,
    seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Measure a task, as metrics.json holds it: "scores" by name, each with the number of its clips, "per_clip" of the
    held-out clips `numbers`, "fixed_times", how well the best fixed times agree with the sound that was made (or the
    picture, where no sound was; None for shots, no two of which last as long), and the "limits" of validity. Scores of
    `OF_TRUE` are also told as shares of the true clips'."""
    between = limits([reading.scene for reading in true])
    wanted = _names(task, sampled)
    by_clip = [clip_measures(task, reading, between, cell) for reading in sampled]
    ceilings = [clip_measures(task, reading, between, cell) for reading in true]
    floors = floor_measures(task, sampled, between, cell)
    picks = resample(numpy_generator(seed, "bootstrap"), len(sampled))
    own, best, chance = (table(clips, wanted) for clips in (by_clip, ceilings, floors))
    scores = {name: asdict(score_over_clips(own[name], best[name], chance[name], picks)) for name in wanted}
    for name in (name for name in wanted if name.startswith(OF_TRUE)):
        scores[name] |= ratio_to_true(own[name], best[name], picks)
    by_sound = "audio" in streams(task).made
    sounding = [reading for reading in sampled if _sounds(reading.spec)]
    onsets = [reading.audio.onsets if by_sound else reading.scene.fit.onsets for reading in sounding]
    durations = [reading.spec.duration for reading in sounding]
    return {
        "scores": scores,
        "per_clip": per_clip(wanted, dict(zip(numbers, by_clip, strict=True)), max(numbers, default=-1) + 1),
        "fixed_times": None if task == "shots" else fixed_times_agreement([*zip(onsets, durations, strict=True)]),
        "limits": {region: list(ends) for region, ends in between.items()},
    }


def shown(measures: Mapping[str, Any]) -> dict[str, Any]:
    """Scores of enough clips to be shown."""
    return {name: score for name, score in measures["scores"].items() if score["clips"] >= LEAST_CLIPS}
