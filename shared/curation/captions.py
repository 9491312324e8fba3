"""What people look like, what is to be seen, what is to be heard: asked of a model, or as the user has written it.

A model's answer is JSON of a stated form. One that has not that form, or that the template cannot hold, is sent back
once with the reason; a second one is refused, and the clip dropped with that reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from shared.curation.chat import Message, ask, picture_part, sound_part, text_part
from shared.curation.config import Captions
from shared.curation.in_process import ask_here
from shared.curation.pictures import small_pictures
from shared.curation.record import Context, Finding, Record
from shared.data.clip_files import TEXT_SUFFIX
from shared.data.media import read_audio
from shared.utils.errors import UserError
from shared.utils.text_files import is_file, read_text, shortened, split_lines

RATE = 16000
PACE = ".captions.pace"
LARGEST = 2**20  # bytes of an X.txt
Phrase = Annotated[str, StringConstraints(strip_whitespace=True, min_length=2, max_length=600)]
Sound = Annotated[str, StringConstraints(strip_whitespace=True, max_length=600)]
QUESTION = """You see pictures of a video clip in the order of time{hear}. Faces that were found in it: {count}.
Answer with one JSON object and nothing else:
{{"people": [{people}], "scene": "..."{form}}}
people: exactly {count} entries, from left to right, each the look of one person in a few words, as
"a woman with grey hair in a red coat". scene: place, light, objects and what happens, in one or two sentences, without
repeating the looks.{rule}"""
SOUND_FORM = ', "sound": "..."'
SOUND_RULE = """ sound: what is to be heard, in one sentence, as "A man speaks while a bell rings"; leave it empty
if you cannot tell."""
SOUND_QUESTION = """You hear the sound of a video clip. Answer with one JSON object and nothing else:
{"sound": "..."}
sound: what is to be heard, in one sentence, as "A man speaks while a bell rings"; leave it empty if nothing is."""
REPAIR = "That cannot be used: {reason}. Answer again, with one JSON object of the form that was asked for."


class Heard(BaseModel):
    """What a model says of a clip's sound."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    sound: Sound


class Answer(BaseModel):
    """What a model says of a clip."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    people: list[Phrase] = Field(max_length=9)
    scene: Phrase
    sound: Sound = ""


Said = TypeVar("Said", Answer, Heard)


class Refused(Exception):
    """A model has answered twice what cannot be used."""

    def __init__(self, model: str, reasons: Sequence[str], said: str) -> None:
        super().__init__(f"{model} answers what cannot be used: {reasons[0]}; and again: {reasons[1]}")
        self.said = said


def caption(record: Record, context: Context) -> Finding:
    """Find the texts of a clip: `people`, `scene` and `sound` of the figures, empty where nobody says anything."""
    settings = context.config.captions
    if settings.source == "none":
        return Finding(figures={"people": [], "scene": "", "sound": ""})
    if settings.source == "files":
        scene, sound = written(record.source)
        return Finding(figures={"people": [], "scene": scene, "sound": sound})
    count = len(record.figures["people"]["people"])
    try:
        answer, repaired = _conversation(
            _question(record, settings, count), settings, context, lambda said: checked(said, count, context)
        )
        figures = answer.model_dump() | {"model": settings.model, "repaired": repaired}
        if settings.sound_model:
            own = settings.of_sound()
            heard, again = _conversation(_sound_question(record), own, context, lambda said: _read(said, Heard))
            figures |= heard.model_dump() | {"sound_model": own.model, "repaired": repaired or again}
    except Refused as refused:
        return Finding("drop", "caption refused", str(refused), {"answer": shortened(refused.said, 500)})
    return Finding(figures=figures)


def written(film: Path) -> tuple[str, str]:
    """Read X.txt beside X.mp4: the caption on its first line and, if there is a second, the sound's there. Both are
    empty where there is no such file. UserError for more lines."""
    file = film.with_suffix(TEXT_SUFFIX)
    if not is_file(file):
        return "", ""
    lines = [line.strip() for line in split_lines(read_text(file, most=LARGEST).strip(), str(file))]
    if len(lines) > 2:
        raise UserError(f"{file}: {len(lines)} lines; a caption, or a caption and an audio caption, is needed")
    caption, sound, *_ = [*lines, "", ""]
    return caption, sound


def checked(said: str, count: int, context: Context) -> Answer:
    """Read a model's answer, fenced or with words around it. ValueError, in words that the model may be told, for one
    that is no JSON object of the form, has another number of people, or does not fit the template."""
    answer = _read(said, Answer)
    if len(answer.people) != count:
        raise ValueError(f"people has {len(answer.people)} entries, and {count} are needed")
    context.tools.template(answer.people, list(range(count)), answer.scene)
    return answer


def _conversation(
    question: list[Message], settings: Captions, context: Context, check: Callable[[str], Said]
) -> tuple[Said, bool]:
    """Ask, and once more with the reason if the answer cannot be used; True: it was asked again."""
    messages: list[Message] = [{"role": "user", "content": question}]
    reasons: list[str] = []
    while True:
        here = settings.source == "transformers"
        said = ask_here(messages, settings) if here else ask(messages, settings, context.output / PACE)
        try:
            return check(said), bool(reasons)
        except ValueError as error:
            reasons.append(str(error))
        if len(reasons) == 2:
            raise Refused(settings.model, reasons, said)
        again = REPAIR.format(reason=reasons[0])
        messages += [{"role": "assistant", "content": said}, {"role": "user", "content": again}]


def _read(said: str, kind: type[Said]) -> Said:
    """Find the JSON object in an answer. ValueError, as `checked`, for one that is not of the form of `kind`."""
    first, last = said.find("{"), said.rfind("}")
    try:
        content = json.loads(said[first : last + 1])
    except ValueError as error:
        raise ValueError(f"it holds no JSON object ({error})") from None
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        one = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, one['loc']))}: {one['msg']}") from None


def _question(record: Record, settings: Captions, count: int) -> list[Message]:
    hear = " and hear its sound" if settings.hears else ""
    people = ", ".join(['"..."'] * count)
    form, rule = ("", "") if settings.sound_model else (SOUND_FORM, SOUND_RULE)
    parts = [text_part(QUESTION.format(hear=hear, count=count, people=people, form=form, rule=rule))]
    parts += [picture_part(pixels) for pixels in _moments(record, settings)]
    return [*parts, _sound_of(record)] if settings.hears else parts


def _sound_question(record: Record) -> list[Message]:
    return [text_part(SOUND_QUESTION), _sound_of(record)]


def _sound_of(record: Record) -> Message:
    return sound_part(read_audio(record.source, RATE, True, record.start, record.end)[0], RATE)


def _moments(record: Record, settings: Captions) -> Sequence[np.ndarray]:
    """Take pictures that lie evenly in a clip."""
    marks = record.start + record.seconds * (np.arange(settings.pictures) + 0.5) / settings.pictures
    taken: list[np.ndarray] = []
    for picture in small_pictures(record.source, record.start, record.end, settings.side):
        while len(taken) < len(marks) and picture.time + picture.length > marks[len(taken)]:
            taken.append(picture.pixels)
        if len(taken) == len(marks):
            break
    return taken or [picture.pixels]
