"""Who speaks when: turns of known voices are found; what cannot be told apart is one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from shared.perception.pitch import HOP, RATE
from shared.perception.speakers import PitchEmbedder, Sound, Span, SpeakerEmbedder
from shared.perception.stretches import stretches
from shared.perception.turns import diarise, label_speakers, speaker_error
from shared.puppets.script import sample_spec
from shared.puppets.sound import synthesise


def voice(hertz: float, seconds: float, level: float = 0.1) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    parts = [np.sin(2 * np.pi * k * hertz * time + k * k) / k for k in range(1, int(3000 / hertz) + 1)]
    return (level * np.sum(parts, axis=0)).astype(np.float32)


def talk(*turns: tuple[float, float]) -> Sound:
    """(hertz, seconds) ... with pauses of 0.2 s around each."""
    pause = np.zeros(RATE // 5, np.float32)
    return np.concatenate([pause, *[part for turn in turns for part in (voice(*turn), pause)]])


def test_people_come_in_the_order_of_their_first_words() -> None:
    turns = diarise(talk((220, 0.5), (110, 0.4), (215, 0.3), (112, 0.6)), 2, PitchEmbedder())
    assert len(turns.active) == 2 and not turns.overlap.any()
    first, second = (stretches(row) for row in turns.active)
    assert np.array(first) == pytest.approx(np.array([[20, 70], [150, 180]]), abs=2)
    assert np.array(second) == pytest.approx(np.array([[90, 130], [200, 260]]), abs=2)


def test_three_people_are_three_and_as_few_as_asked() -> None:
    sound = talk((90, 0.5), (150, 0.5), (250, 0.5), (92, 0.5))
    assert len(diarise(sound, 3, PitchEmbedder()).active) == 3
    assert len(diarise(sound, 5, PitchEmbedder()).active) == 3  # no fourth is heard
    assert len(diarise(sound, 2, PitchEmbedder()).active) == 2


def test_voices_that_are_alike_are_one_and_silence_is_nobody() -> None:
    assert len(diarise(talk((110, 0.5), (120, 0.5)), 2, PitchEmbedder()).active) == 1
    silent = diarise(np.zeros(RATE, np.float32), 2, PitchEmbedder())
    assert silent.active.shape == (0, 100) and not silent.overlap.any()
    assert diarise(np.zeros(0, np.float32), 2, PitchEmbedder()).active.shape == (0, 0)


def test_two_at_once_are_told_and_belong_to_both() -> None:
    both = voice(110, 0.5) + voice(190, 0.5)
    sound = np.concatenate([talk((110, 0.5), (190, 0.5)), both, talk((110, 0.5))])
    turns = diarise(sound, 2, PitchEmbedder())
    (span,) = stretches(turns.overlap)
    assert span == pytest.approx((160, 210), abs=6)
    assert turns.active[:, 165:205].all() and turns.active[:, 30:60].sum(0).max() == 1


def test_a_second_pitch_under_one_voice_is_no_second_speaker() -> None:
    sound = np.concatenate([talk((110, 0.5), (112, 0.5)), voice(110, 0.2) + voice(190, 0.2)])
    turns = diarise(sound, 2, PitchEmbedder())
    assert len(turns.active) == 1 and not turns.overlap.any() and turns.active[0, 163:177].all()


def test_a_clip_of_the_puppets_has_its_turns() -> None:
    """A man and a woman of the level `full`, by their own stems."""
    specs = (sample_spec(9, index, "full") for index in range(400))
    spec = next(s for s in specs if sorted(c.kind for c in s.characters if c.syllables) == ["man", "woman"])
    stems = synthesise(spec)
    turns = diarise(stems["speech1"] + stems["speech2"], 2, PitchEmbedder())
    true = np.array([PitchEmbedder().active(stems[name]) for name in ("speech1", "speech2")])
    wrong, frames = speaker_error(true, turns.active)
    assert len(turns.active) == 2 and frames > 50 and wrong / frames < 0.05


class Given(SpeakerEmbedder):
    pause, longest, enough, least, apart = 0, 100, 10, 12, 1.0

    def active(self, sound: Sound) -> np.ndarray:
        raise NotImplementedError

    def embed(self, sound: Sound, spans: Sequence[Span]) -> np.ndarray:
        raise NotImplementedError


def grouped(vectors: np.ndarray, spans: list[Span]) -> list[int]:
    """Labels in the order in which they come."""
    labels = label_speakers(vectors, spans, 2, Given()).tolist()
    return [list(dict.fromkeys(labels)).index(label) for label in labels]


def test_a_short_stretch_founds_no_speaker_and_no_change_that_costs_more() -> None:
    vectors = np.array([[0.0, 1], [0.1, 1], [2.9, 1], [3.0, 1], [0.0, 1]])
    spans = [(0, 20), (20, 40), (40, 60), (60, 80), (80, 82)]
    assert grouped(vectors, spans) == [0, 0, 1, 1, 1]  # 2 frames are less than a change
    spans[-1] = (80, 120)
    assert grouped(vectors, spans) == [0, 0, 1, 1, 0]
    outlier = np.array([[0.0, 1], [9.0, 1], [3.0, 1]])
    assert grouped(outlier, [(0, 20), (20, 21), (21, 60)]) == [0, 1, 1]
    assert label_speakers(vectors[:1], spans[:1], 3, Given()).tolist() == [0]  # of three that are asked for
    odd = np.array([[0.0, 1], [9.0, 1], [3.0, 1], [0.0, 1]])  # of 11 frames: no speaker, though the farthest
    assert grouped(odd, [(0, 20), (20, 31), (31, 60), (60, 80)]) == [0, 1, 1, 0]
    assert grouped(odd[[0, 1, 3]], [(0, 20), (20, 31), (60, 80)]) == [0, 0, 0]
    same = np.ones((4, 2))
    assert grouped(same, spans[:4]) == [0, 0, 0, 0]


def test_the_error_counts_missed_invented_and_confused_frames_of_the_best_pairing() -> None:
    true = np.array([[1, 1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 0, 0]], bool)
    assert speaker_error(true, true[::-1]) == (0, 6)
    assert speaker_error(true, np.zeros((0, 7), bool)) == (6, 6)
    assert speaker_error(true, np.ones((1, 7), bool)) == (5, 6)  # 3 right; the other 2, the 3rd twice, 2 invented
    confused = np.array([[1, 0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 1, 0, 0]], bool)
    assert speaker_error(true, confused) == (2, 6)


def test_frames_are_a_hundredth_of_a_second() -> None:
    assert HOP / RATE == 0.01
