"""Scripts of the level `shows`."""

from __future__ import annotations

from itertools import chain, pairwise

import numpy as np
import pytest

from shared.puppets.script import sample_spec
from shared.puppets.shows import Show, sample_show
from shared.puppets.spec import FIRST_ONSET, LAST_ONSET, ONSET_GAP, Spec
from shared.utils.errors import UserError

SHOWS = [sample_show(7, index, (64, 64)) for index in range(600)]
SHOTS: list[Spec] = list(chain(*(show.shots for show in SHOWS)))


def test_shots_fill_the_clip_with_exact_cuts() -> None:
    assert {len(show.shots) for show in SHOWS} == {1, 2, 3}
    for show in SHOWS:
        frames, fps = sum(shot.frames for shot in show.shots), show.shots[0].fps
        assert frames % fps == 0 and all(shot.frames >= fps and shot.fps == fps for shot in show.shots)
        assert show.starts == tuple(first / fps for first in show.first_frames) and show.starts[0] == 0
    cuts = {start % 1 for show in SHOWS for start in show.starts}
    assert len(cuts) > 20


def test_up_to_three_objects_and_two_people_in_all_combinations() -> None:
    assert {(len(s.characters), len(s.props)) for s in SHOTS} == {(p, o) for p in range(3) for o in range(4)} - {(0, 0)}
    pairs = [s.characters for s in SHOTS if len(s.characters) == 2]
    assert len({(a.kind, a.side, b.kind, b.side) for a, b in pairs}) == 8
    assert {(bool(a.syllables), bool(b.syllables)) for a, b in pairs} == {(x, y) for x in (0, 1) for y in (0, 1)}
    assert {(a.shirt, b.shirt) for a, b in pairs} == {(x, y) for x in _COLOURS for y in _COLOURS}
    assert max(len(s.props) for s in SHOTS if len([p for p in s.props if p.visible]) == 3) == 3
    counts = [tuple(sorted(len(p.onsets) for p in s.props)) for s in SHOTS]
    assert {(1, 1, 1), (1, 2, 3), (2, 2)} <= set(counts)


_COLOURS = ("red", "green", "blue", "yellow")


def test_nothing_happens_at_once_and_nobody_speaks_at_once() -> None:
    for spec in SHOTS:
        assert spec.props or any(c.syllables for c in spec.characters)
        onsets = np.sort([onset for prop in spec.props for onset in prop.onsets])
        assert all(prop.onsets for prop in spec.props)
        if len(onsets):
            assert onsets[0] >= FIRST_ONSET and onsets[-1] <= spec.duration - LAST_ONSET
            assert np.diff(onsets).min(initial=9) >= ONSET_GAP - 1e-9
        spans = sorted((s.start, s.end) for c in spec.characters for s in c.syllables)
        assert all(a[0] >= 0 and a[1] <= b[0] for a, b in pairwise(spans))
        assert all(end <= spec.duration for _, end in spans)
        places = [c.side for c in spec.characters if c.visible] + [p.slot for p in spec.props if p.visible]
        assert len(places) == len(set(places))


def test_both_speak_more_than_once() -> None:
    turns = [
        len([1 for a, b in pairwise(order) if a != b])
        for order in (
            [who for _, who in sorted((s.start, i) for i, c in enumerate(spec.characters) for s in c.syllables)]
            for spec in SHOTS
        )
    ]
    assert {0, 1, 2, 3} <= set(turns)


def test_people_light_and_music_may_stay_over_a_cut() -> None:
    pairs = [(a, b) for show in SHOWS for a, b in zip(show.shots, show.shots[1:], strict=False)]
    same = [(a, b) for a, b in pairs if a.tempo == b.tempo]
    assert 0.3 < len(same) / len(pairs) < 0.7
    assert all(a.mood == b.mood and a.root == b.root and a.music == b.music for a, b in same)
    assert any([c.pitch for c in a.characters] == [c.pitch for c in b.characters] != [] for a, b in pairs)


def test_a_script_is_a_show_of_one_shot() -> None:
    assert sample_spec(7, 3, "shows") == sample_show(7, 3, (64, 64), shots=1).shots[0]
    assert sample_spec(7, 3, "shows") != sample_spec(8, 3, "shows")


def test_seeds_and_held_out_shows_share_no_random_number() -> None:
    def numbers(show: Show) -> set[float]:
        shots = show.shots
        drawn = {s.beat_phase for s in shots} | {s.tempo for s in shots} | {s.music_level for s in shots}
        return (
            drawn
            | {onset for s in shots for p in s.props for onset in p.onsets}
            | {c.pitch for s in shots for c in s.characters}
        )

    others = [sample_show(8, i, (64, 64)) for i in range(200)]
    held_out = [sample_show(7, i, (64, 64), held_out=True) for i in range(200)]
    drawn = [set().union(*map(numbers, group)) for group in (SHOWS[:200], others, held_out)]
    assert all(len(one) > 500 for one in drawn)
    assert not drawn[0] & drawn[1] and not drawn[0] & drawn[2] and not drawn[1] & drawn[2]


def test_any_frame_rate() -> None:
    for fps in range(12, 31):
        show = sample_show(7, 1, (64, 64), fps=fps)
        assert all(np.array_equal(shot.frame_times(), np.arange(shot.frames) / fps) for shot in show.shots)
    for fps in (11, 31):
        with pytest.raises(UserError, match=f"frame rate {fps}: give a whole number from 12 to 30"):
            sample_show(7, 1, (64, 64), fps=fps)


def test_there_are_no_conflicts() -> None:
    with pytest.raises(UserError, match="give conflict 0"):
        sample_spec(7, 1, "shows", conflict=0.5)
