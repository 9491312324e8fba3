"""What the streams of a clip read: its texts over time where it has some, else its captions."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, Self

from shared.encoders.timed_prompts import TimedPrompts
from shared.utils.errors import UserError

#: Pairs of seconds, counted from the clip's start, and text.
Pairs = Sequence[tuple[float, str]]


class Told(Protocol):
    """What has the texts of a clip: a line of a manifest, or a record."""

    @property
    def caption(self) -> str: ...
    @property
    def audio_caption(self) -> str: ...
    @property
    def prompts(self) -> Pairs: ...
    @property
    def audio_prompts(self) -> Pairs: ...


class ClipTexts(NamedTuple):
    """Texts of a clip, by themselves."""

    caption: str = ""
    audio_caption: str = ""
    prompts: Pairs = ()
    audio_prompts: Pairs = ()

    @classmethod
    def of(cls, clip: Told) -> Self:
        """Take them out of what has them."""
        return cls(clip.caption, clip.audio_caption, clip.prompts, clip.audio_prompts)


def texts_of_record(facts: dict[str, Any]) -> ClipTexts:
    """Texts in a record's JSON. KeyError, TypeError, AttributeError or ValueError if they are something else."""
    over_time = ([(float(at), text) for at, text in facts.get(name, ())] for name in ("prompts", "audio_prompts"))
    texts = ClipTexts(facts["caption"], facts["audio_caption"], *over_time)
    for text in (texts.caption, texts.audio_caption, *(text for _, text in (*texts.prompts, *texts.audio_prompts))):
        text.encode()  # half a character, or no text at all
    try:
        video_text(texts), audio_text(texts)
    except UserError as error:
        raise ValueError(str(error)) from None
    return texts


def video_text(clip: Told) -> TimedPrompts:
    """Prompts that the video stream reads."""
    return _timed(clip.prompts, clip.caption)


def audio_text(clip: Told) -> TimedPrompts:
    """Prompts that the audio stream reads where it has a text of its own."""
    return _timed(clip.audio_prompts, clip.audio_caption)


def _timed(pairs: Pairs, caption: str) -> TimedPrompts:
    if not pairs:
        return TimedPrompts.of(caption)
    times, texts = zip(*pairs, strict=True)
    return TimedPrompts(tuple(map(float, times)), texts)
