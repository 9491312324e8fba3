"""A second world: the same script looks and sounds differently, and is read back as well as on the stage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shared.evaluation.event_scores import agreement
from shared.evaluation.scores import correlation
from shared.puppets.choices import Choices
from shared.puppets.clip import PuppetClip, render_clip
from shared.puppets.readers import mouth_range, read_flash, read_sound
from shared.puppets.scene_fit import canonical
from shared.puppets.script import MOODS, Spec, sample_spec
from shared.puppets.script_fit import fit_script
from shared.puppets.styles import STYLES
from shared.utils.errors import UserError

CASES = [("simple", 0), ("simple", 3), ("full", 4), ("full", 7)]


def cutout(level: str, index: int) -> tuple[Spec, PuppetClip]:
    spec = replace(sample_spec(7, index, level, seconds=2, fps=16), style="cutout")
    return spec, render_clip(spec)


def test_the_same_happens_in_other_pictures_and_sounds() -> None:
    spec, clip = cutout("full", 4)
    stage = render_clip(replace(spec, style="stage"))
    assert clip.caption == stage.caption and clip.truth["events"] == stage.truth["events"]
    assert (clip.truth["id"], stage.truth["id"]) == ("cutout-full-7-000004", "stage-full-7-000004")
    assert np.abs(clip.frames.astype(int) - stage.frames).mean() > 5  # of 255
    for name, stem in clip.stems.items():
        if stem.any():
            assert not np.allclose(stem, stage.stems[name], atol=0.01), name


@pytest.mark.parametrize(("level", "index"), CASES)
def test_what_happens_is_read_back(level: str, index: int) -> None:
    spec, clip = cutout(level, index)
    fit, heard = fit_script(clip.frames, 16, level, "cutout"), read_sound(clip.mix, spec.rate)
    events = clip.truth["events"]
    seen = np.array([event["time"] for event in events if event["visible"]])
    every = np.array([event["time"] for event in events])
    for found, true in ((fit.onsets, seen), (heard.onsets, every)):
        hits, total = agreement(found, true)
        assert hits == total
    assert fit.spec.mood == spec.mood
    people = {(c.kind, c.side, c.shirt) for c in spec.characters if c.visible}
    things = {(p.kind, p.slot, p.colour, p.size) for p in spec.props if p.visible}
    assert {(c.kind, c.side, c.shirt) for c in fit.spec.characters} == people
    assert {(p.kind, p.slot, p.colour, p.size) for p in fit.spec.props} == things
    if any(c.syllables and c.visible for c in spec.characters):
        assert correlation(np.sum(fit.openings, 0), heard.loudness_at(spec.frame_times())) > 0.9


def test_there_is_no_spark_and_the_ring_is_not_read_as_one() -> None:
    spec, clip = cutout("simple", 0)
    (prop,) = spec.props
    pan, pixels = np.zeros(spec.frames), canonical(clip.frames)
    ring, spark = (read_flash(pixels, pan, prop.kind, prop.slot, style) for style in ("cutout", "stage"))
    assert ring.max() > 0.5 and ring.max() > 3 * spark.max()


@pytest.mark.parametrize("mood", MOODS)
def test_the_other_mouth_opens_in_width_and_is_told_from_shut(mood: str) -> None:
    shut, wide = mouth_range(mood, "cutout")
    assert wide - shut > 0.2 and (shut, wide) != mouth_range(mood)


def test_styles_say_all_that_there_is() -> None:
    for style in STYLES.values():
        assert style.wall.keys() == style.light.keys() == set(MOODS)
        assert style.base_pitch.keys() == {"ball", *style.partials}
    with pytest.raises(UserError, match="level 'shows' is of the stage alone; leave style cutout out"):
        Choices(style="cutout").check("shows")
    chosen = Choices(style="cutout")
    chosen.check("full")
    assert (
        chosen.settings() == {"style": "cutout"} and chosen.show(7, "full", (64, 64), 0.0, 4).shots[0].style == "cutout"
    )


@pytest.mark.parametrize("style", STYLES)
def test_captions_may_name_the_style_and_are_else_the_same(style: str) -> None:
    for index in range(4):
        plain, named = (
            render_clip(Choices(style=style, style_mentioned=told).show(7, "full", (64, 64), 0.0, index).shots[0])
            for told in (False, True)
        )
        first = f"{style.capitalize()} style. "
        assert (named.caption, named.audio_caption) == (first + plain.caption, first + plain.audio_caption)
        assert (named.frames == plain.frames).all() and (named.mix == plain.mix).all()
    with pytest.raises(UserError, match="level 'shows' has one style, which its captions do not name"):
        Choices(style_mentioned=True).check("shows")
