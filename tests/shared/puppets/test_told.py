"""What is told is what stands in the captions, and nothing else."""

from __future__ import annotations

from shared.puppets import grammar
from shared.puppets.clip import TIMES, audio_caption, caption, told_by_captions
from shared.puppets.script import sample_spec
from shared.puppets.told import Told, ToldObject, ToldPerson, told_by_script


def test_every_told_word_stands_in_the_caption_and_every_untold_one_does_not() -> None:
    seen = set()
    for spec in (sample_spec(32, i, level, conflict=0.3) for level in ("simple", "full") for i in range(150)):
        told, text = told_by_script(spec), caption(spec)
        for number, person in enumerate(told.people, 1):
            assert person.kind in text and (person.visible or f"offscreen {person.kind}" in text)
            assert person.speaks == (f"Person{number} is speaking" in text)
            looks = [word for word in (person.shirt and f"{person.shirt} shirt", person.side) if word]
            assert all(word in text for word in looks) or not person.visible
        for thing in told.objects:
            words = [word for word in (thing.size, thing.colour, thing.kind) if word]
            assert " ".join(words) in text
            if thing.count is not None:
                assert TIMES[thing.count] in text
        assert (told.light is not None) == ("light" in text) and (told.light or "") in text
        assert (told.pace is not None) == (f"{told.light} music" in audio_caption(spec))
        seen |= {len(told.people), f"{len(told.objects)} objects", told.count is None}
    assert seen >= {0, 1, 2, "0 objects", "2 objects"}


def test_both_captions_of_shows_tell_and_no_more_than_their_words() -> None:
    paced = 0
    for spec in (sample_spec(32, i, "shows") for i in range(60)):
        told, seen, heard = told_by_captions(spec), grammar.told(spec), grammar.told(spec, audio=True)
        assert (told.people, told.objects, told.light) == (seen.people, seen.objects, seen.light)
        assert told.drifting == seen.drifting and (told.pace, told.mode) == (
            seen.pace or heard.pace,
            seen.mode or heard.mode,
        )
        paced += told.pace is not None
    assert 30 < paced < 60
    assert told_by_captions(sample_spec(32, 0)) == told_by_script(sample_spec(32, 0))


def test_what_drifts_by_is_told_where_it_is_mentioned() -> None:
    for spec in (sample_spec(32, i, "full") for i in range(60)):
        for kind, colour in told_by_script(spec).drifting:
            assert f"a {f'{colour} ' if colour else ''}{kind} drifts by" in caption(spec)
        assert len(told_by_script(spec).drifting) == caption(spec).count("drifts by")


def test_counts_are_told_together_or_not_at_all() -> None:
    assert Told(objects=(ToldObject("ball", count=2), ToldObject("bell", count=1))).count == 3
    assert Told(objects=(ToldObject("ball", count=2), ToldObject("bell"))).count is None
    assert Told().count == 0 and Told().events_are_visible and not Told().speech_is_visible
    assert not Told(people=(ToldPerson("man", speaks=True, visible=False),)).speech_is_visible
