"""A clip of the puppets: a procedural theatre with exact ground truth (docs/design.md section 9).

`sample_spec` draws a script, `render_clip` turns it into frames, stems, mix, truth and captions; `render_show` those of
several shots. Everything is a function of (seed, level, index) and of the options that are given, all in a clip's id or
beside the clips: other seeds (a held-out set) share no random number with it.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.data.manifest import Clip, claim_folder
from shared.data.media_write import write_audio, write_lossless, write_video
from shared.puppets import grammar, picture, sound
from shared.puppets.choices import Choices
from shared.puppets.script import Character, Prop, Spec, sample_spec
from shared.puppets.shows import Show
from shared.puppets.told import Told, told_by_script
from shared.utils.errors import UserError
from shared.utils.files import read_json, replacing
from shared.utils.parallel import spread

__all__ = ["Spec", "make_clips", "read_truth", "render_clip", "render_show", "sample_spec"]

NEEDED = ("characters", "objects", "events", "pan", "mood", "music")  # of the truth, all that measuring uses
VERBS = {"ball": "bounces", "bell": "rings", "drum": "is hit"}
STEMS = ("speech1", "speech2", "effects", "music")
SEVERAL_SHOTS = "several_shots"
"""Subset of the clips that have a cut."""
CUT_FADE = 0.01
AS_DRAWN = Choices()
TIMES = ("", "once", "twice", "three times", "four times", "five times", "six times")  # up to `script.MOST_COUNTED`


class PuppetClip(NamedTuple):
    """What `render_clip` returns: frames uint8 [T,H,W,3], stems and mix float32 [N], truth (JSON-able), captions."""

    frames: NDArray[np.uint8]
    stems: dict[str, NDArray[np.float32]]
    mix: NDArray[np.float32]
    truth: dict[str, Any]
    caption: str
    audio_caption: str


def render_clip(spec: Spec) -> PuppetClip:
    """Picture, sound and truth of one script. `mix` is the exact sum of the stems, peak under 0.95."""
    mouths = [sound.mouth_opening(spec, character) for character in spec.characters]
    stems = sound.synthesise(spec)
    mix = np.stack(list(stems.values())).sum(axis=0, dtype=np.float32)
    frames = picture.render(spec, mouths)
    return PuppetClip(frames, stems, mix, truth(spec, mouths), caption(spec), audio_caption(spec))


def render_show(show: Show) -> PuppetClip:
    """Picture, sound and truth of a show. Its shots follow one another on exact frames; their stems fade for CUT_FADE
    seconds on both sides of a cut. The truth of several shots holds one truth each, under `shots`."""
    shots = [render_clip(shot) for shot in show.shots]
    if len(shots) == 1:
        return shots[0]
    fps, rate, frames = show.shots[0].fps, show.shots[0].rate, sum(shot.frames for shot in show.shots)
    edges = [round(first * rate / fps) for first in (*show.first_frames, frames)]
    names = sorted({name for shot in shots for name in shot.stems}, key=STEMS.index)
    stems = {name: np.zeros(edges[-1], np.float32) for name in names}
    for i, shot in enumerate(shots):
        count = min(edges[i + 1] - edges[i], len(shot.mix))
        gate = _gate(count, round(CUT_FADE * rate), i > 0, i + 1 < len(shots))
        for name, stem in shot.stems.items():
            stems[name][edges[i] : edges[i] + count] = np.rint(stem[:count] * gate * 32768) / 32768
    mix = np.stack(list(stems.values())).sum(axis=0, dtype=np.float32)
    first = shots[0].truth
    told = [{"start": start} | shot.truth for start, shot in zip(show.starts, shots, strict=True)]
    marks = {name for shot in shots for name in shot.truth["subsets"]}
    whole = {
        **{name: first[name] for name in ("id", "seed", "index", "level", "fps", "size", "sample_rate")},
        "frames": frames, "duration": frames / fps, "subsets": [*sorted(marks), SEVERAL_SHOTS], "shots": told,
    }  # fmt: skip
    pictures = np.concatenate([shot.frames for shot in shots])
    captions = [" ".join(texts) for texts in zip(*((s.caption, s.audio_caption) for s in shots), strict=True)]
    return PuppetClip(pictures, stems, mix, whole, *captions)


def _gate(count: int, fade: int, at_start: bool, at_end: bool) -> NDArray[np.float64]:
    gate, ramp = np.ones(count), np.linspace(0, 1, fade, endpoint=False)
    if at_start:
        gate[:fade] = ramp
    if at_end:
        gate[-fade:] = ramp[::-1]
    return gate


def subsets(spec: Spec) -> list[str]:
    """MTV's five overlapping subsets by construction, and `conflict`, which only evaluation should read."""
    people, speaking = len(spec.characters), any(c.syllables for c in spec.characters)
    alone = people == 1 and speaking and spec.characters[0].visible
    tags = {
        "basic_face": alone and not spec.props, "single_character": alone,
        "multiple_characters": people == 2 and speaking, "sound_event": spec.props,
        "ambience": spec.music, "conflict": spec.caption_overrides,
    }  # fmt: skip
    return [name for name, holds in tags.items() if holds]


def truth(spec: Spec, mouths: list[sound.Array]) -> dict[str, Any]:
    """Everything a metric may ask, JSON-able. Times in seconds, places in scene units (`picture`)."""
    speakers = [i for i, character in enumerate(spec.characters) if character.syllables]
    characters, objects = [], []
    for person, mouth in zip(spec.characters, mouths, strict=True):
        syllables = person.syllables
        characters.append({
            **_fields(person, "kind", "side", "shirt", "visible", "pitch"), "speaking": bool(syllables),
            "mentioned": list(person.mentioned), "mouth": np.round(mouth, 5).tolist(),
            "mouth_centre": [picture.SLOTS[person.side], picture.MOUTH_CENTRE_Y],
            "speech_span": [syllables[0].start, syllables[-1].end] if syllables else None,
            **({"syllables": [[s.start, s.end, "aiueo"[s.vowel]] for s in syllables]} if spec.articulated else {}),
        })  # fmt: skip
    for prop in spec.props:
        objects.append({
            **_fields(prop, "kind", "size", "colour", "slot", "visible"), "audible": True,
            "mentioned": list(prop.mentioned), "count": len(prop.onsets),
            "flash_centre": [picture.SLOTS[prop.slot], picture.FLASH_CENTRE_Y[prop.kind]],
        })  # fmt: skip
    events = sorted((onset, i) for i, prop in enumerate(spec.props) for onset in prop.onsets)
    return {
        **_fields(spec, "id", "seed", "index", "level", "fps", "frames", "duration"),
        "size": list(spec.size), "sample_rate": spec.rate, "characters": characters,
        "active_speaker": speakers[0] if len(speakers) == 1 else None, "speakers": speakers, "objects": objects,
        "events": [{"time": t, "object": i, **_fields(spec.props[i], "kind", "visible")} for t, i in events],
        "distractors": [asdict(distractor) for distractor in spec.distractors],
        **_fields(spec, "mood", "mood_mentioned", "mode", "tempo", "beat_phase", "music"),
        "pan": np.round(spec.pan_offsets(), 5).tolist(),
        "silence": [spec.silence[0] + sound.FADE, spec.silence[1] - sound.FADE] if spec.silence else None,
        "subsets": subsets(spec), "conflict": dict(spec.caption_overrides),
    }  # fmt: skip


def read_truth(file: Path) -> dict[str, Any]:
    """Read the `truth` of a clip back. UserError for a file that cannot be read or that lacks any of `NEEDED`."""
    truth = read_json(file)
    if "shots" in truth:
        raise UserError(f"{file}: tells of {len(truth['shots'])} shots; a clip of one shot is needed (--shots 1)")
    if missing := [name for name in NEEDED if name not in truth]:
        raise UserError(f"{file}: has no {missing[0]}; the truth of a puppet clip is needed")
    return truth


def _fields(thing: object, *names: str) -> dict[str, Any]:
    return {name: getattr(thing, name) for name in names}


def caption(spec: Spec) -> str:
    """Caption of a clip: "One person conversation. Person1: ... Person1 is speaking. Scene description: ..."; only the
    scene when nobody speaks; on `shows` in the words of `grammar`. Event times never appear."""
    if spec.level == "shows":
        return grammar.write(spec)
    said = dict(spec.caption_overrides)
    scene = [_event(prop, said, audio=False) for prop in spec.props]
    for drifting in spec.distractors:
        colour = f"{drifting.colour} " if drifting.kind == "balloon" else ""
        scene += [f"a {colour}{drifting.kind} drifts by"] if drifting.mentioned else []
    light = f" under a {said.get('mood', spec.mood)} light" if spec.mood_mentioned else ""
    looks = [_look(character, said) for character in spec.characters]
    people = ""
    if any(character.syllables for character in spec.characters):
        parts = [f"{('One', 'Two')[len(looks) - 1]} person conversation."]
        parts += [f"Person{i}: {look}." for i, look in enumerate(looks, 1)]
        parts += [f"Person{i} is speaking." for i, character in enumerate(spec.characters, 1) if character.syllables]
        people = " ".join(parts) + " "
    else:
        scene = [f"{look} is silent" for look in looks] + scene
    return f"{_style(spec)}{people}Scene description: {' and '.join(scene) or 'an empty stage'}{light}."


def audio_caption(spec: Spec) -> str:
    """Caption of what sounds: "A man speaks while a big red ball bounces twice with warm bright music."."""
    if spec.level == "shows":
        return grammar.write(spec, audio=True)
    said = dict(spec.caption_overrides)
    voices = [f"a {said.get('person', c.kind)}" for c in spec.characters if c.syllables]
    speech = f"{voices[0]} speaks" if len(voices) == 1 else f"{' and '.join(voices)} speak in turns" if voices else ""
    events = " and ".join(_event(prop, said, audio=True) for prop in spec.props)
    text = " while ".join(part for part in (speech, events) if part)
    if spec.music:
        text += f" with {said.get('mood', spec.mood)} music" if spec.mood_mentioned else " with music"
    return f"{_style(spec)}{text[0].upper()}{text[1:]}."


def _style(spec: Spec) -> str:
    """First sentence of the captions that name the style."""
    return f"{spec.style.capitalize()} style. " if spec.style_mentioned else ""


def told_by_captions(spec: Spec) -> Told:
    """Collect what both captions of a clip tell; on `shows` it is parsed from their words."""
    if spec.level != "shows":
        return told_by_script(spec)
    seen, heard = grammar.parse(caption(spec)), grammar.parse(audio_caption(spec))
    return replace(seen, pace=seen.pace or heard.pace, mode=seen.mode or heard.mode, music=seen.music or heard.music)


def _look(character: Character, said: dict[str, str]) -> str:
    kind = said.get("person", character.kind)
    if not character.visible:
        return f"an offscreen {kind}"
    shirt = f" in a {character.shirt} shirt" if "shirt" in character.mentioned else ""
    return f"a {kind}{shirt}" + (f" on the {character.side}" if "side" in character.mentioned else "")


def _event(prop: Prop, said: dict[str, str], audio: bool) -> str:
    kind = said.get("object", prop.kind)
    words = [] if prop.visible or audio else ["offscreen"]
    words += [getattr(prop, name) for name in ("size", "colour") if name in prop.mentioned] + [kind]
    article = "an" if words[0] == "offscreen" else "a"
    count = f" {TIMES[len(prop.onsets)]}" if "count" in prop.mentioned else ""
    return f"{article} {' '.join(words)} {VERBS[kind]}{count}"


def make_clips(
    folder: Path, count: int, seed: int, level: str, size: tuple[int, int], conflict: float, workers: int,
    choices: Choices = AS_DRAWN,
) -> Iterator[Clip]:  # fmt: skip
    """Yield the records of `count` clips, each as soon as its files are written; the manifest is left to the caller.
    UserError for settings that there are not, and for a folder that holds anything else."""
    sample_spec(seed, 0, level, size, conflict)  # checks them
    choices.check(level)
    draw = partial(choices.show, seed, level, size, conflict)
    draw(0)
    settings = {"seed": seed, "level": level, "size": list(size), "conflict": conflict} | choices.settings()
    claim_folder(folder, "puppets.json", settings)
    return spread(partial(make_clip, folder, draw, choices.lossless), range(count), workers)


def make_clip(folder: Path, draw: Callable[[int], Show], lossless: bool, index: int) -> Clip:
    """Render clip `index`, write its files, and return its manifest record."""
    show = draw(index)
    clip, spec = render_show(show), show.shots[0]
    prompts, audio_prompts = (
        list(zip(show.starts, map(write, show.shots), strict=True)) if len(show.shots) > 1 else []
        for write in (caption, audio_caption)
    )
    people = max((shot.characters for shot in show.shots), key=len)
    video = folder / "video" / f"{spec.id}.{'mkv' if lossless else 'mp4'}"
    record = Clip(
        id=spec.id, caption=clip.caption, audio_caption=clip.audio_caption,
        subsets=[spec.level, *clip.truth["subsets"]],  # a recipe may begin with the simple ones
        video=video, truth=folder / "truth" / f"{spec.id}.json",
        tracks={name: folder / "stems" / f"{spec.id}.{name}.wav" for name in clip.stems},
        speakers=[character.kind for character in people], prompts=prompts,
        audio_prompts=audio_prompts,
    )  # fmt: skip
    files = record.files()
    write = write_lossless if lossless else write_video
    write(files["video"], clip.frames, spec.fps, clip.mix[None], spec.rate)
    for name, stem in clip.stems.items():
        write_audio(files[name], stem[None], spec.rate)
    files["truth"].parent.mkdir(exist_ok=True)
    with replacing(files["truth"]) as part:
        part.write_text(json.dumps(clip.truth), encoding="utf-8")
    return record
