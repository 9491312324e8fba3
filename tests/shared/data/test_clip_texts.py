"""What the streams of a clip read, from a manifest's line and from a record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared.data.clip_texts import ClipTexts, audio_text, texts_of_record, video_text
from shared.data.manifest import Clip
from shared.encoders.timed_prompts import TimedPrompts

PAIRS = [(0, "A bell."), (1.5, "A drum.")]
TIMED = TimedPrompts((0.0, 1.5), ("A bell.", "A drum."))


def clip(**fields: Any) -> Clip:
    return Clip(id="a", video=Path("a.mp4"), **fields)


def test_a_caption_is_read_all_the_time() -> None:
    told = clip(caption="A ball.", audio_caption="Rain.")
    assert (video_text(told), audio_text(told)) == (TimedPrompts.of("A ball."), TimedPrompts.of("Rain."))


def test_texts_over_time_come_before_captions() -> None:
    told = clip(caption="Two shots.", prompts=PAIRS)
    assert video_text(told) == audio_text(told) == TIMED
    assert audio_text(clip(prompts=PAIRS, audio_caption="Rain.")) == TimedPrompts.of("Rain.")
    heard = clip(caption="A ball.", audio_prompts=PAIRS)
    assert video_text(heard) == TimedPrompts.of("A ball.") and audio_text(heard) == TIMED


def test_a_records_texts_are_the_clips() -> None:
    told = ClipTexts.of(clip(caption="Two shots.", prompts=PAIRS))
    facts = told._asdict() | {"prompts": [[0, "A bell."], [1.5, "A drum."]]}
    assert video_text(texts_of_record(facts)) == TIMED and texts_of_record(facts).caption == "Two shots."
    assert texts_of_record({"caption": "a", "audio_caption": "b"}) == ClipTexts("a", "b", [], [])


@pytest.mark.parametrize(
    "prompts", [5, [5], [[0]], [["soon", "A."]], [[0, 5]], [[1, "A."]], [[0, "A."], [0, "B."]], [[0, "\ud83d"]]]
)
def test_a_record_of_other_texts_is_told(prompts: object) -> None:
    with pytest.raises((TypeError, ValueError, AttributeError)):
        texts_of_record({"caption": "", "audio_caption": "", "prompts": prompts})
