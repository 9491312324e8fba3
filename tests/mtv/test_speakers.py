"""One speech track of two people becomes two, which sum to it; fewer voices than asked for are told."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from diarisation import Planted, write_files

from mtv import speakers
from mtv.speakers import by_speaker, check_embedder, check_speakers, describe, find_turns, in_seconds, split_speech
from mtv.tracks import Tracks
from shared.perception.diarisation import Diariser
from shared.perception.turns import Turns
from shared.utils.errors import UserError

RATE = 24000


def voice(hertz: float, seconds: float) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.1 * np.sum([np.sin(2 * np.pi * k * hertz * time) / k for k in range(1, 9)], axis=0)).astype(np.float32)


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """Stereo: a woman for 0.6 s, a man for 0.5 s, the woman for 0.4 s, with a soft hum through all pauses."""
    pause = np.zeros(RATE // 5, np.float32)
    parts = [pause, voice(220, 0.6), pause, voice(110, 0.5), pause, voice(215, 0.4), pause]
    sound = np.concatenate(parts) + 1e-4
    return np.stack([sound, 0.5 * sound])


def test_each_person_gets_their_words_and_the_tracks_sum_to_the_whole(speech: np.ndarray) -> None:
    turns = find_turns(speech, RATE, 2, "pitch")
    check_speakers(turns, 2, "talk.wav")
    first, second = split_speech(speech, RATE, turns)
    assert first.dtype == second.dtype == np.float32 and first.shape == second.shape == speech.shape
    assert first + second == pytest.approx(speech, abs=1e-6)
    woman, man = slice(int(0.25 * RATE), int(0.75 * RATE)), slice(int(1.05 * RATE), int(1.45 * RATE))
    assert np.array_equal(first[:, woman], speech[:, woman]) and not first[:, man].any()
    assert np.array_equal(second[:, man], speech[:, man]) and not second[:, woman].any()
    told = [re.fullmatch(r"Person(\d) speaks from ([\d.]+) s on, ([\d.]+) s in all", line) for line in describe(turns)]
    numbers = [[float(word) for word in line.groups()] for line in told if line]
    assert np.array(numbers) == pytest.approx(np.array([[1, 0.2, 1.0], [2, 1.0, 0.5]]), abs=0.06)


def test_a_models_track_is_given_to_its_speakers(speech: np.ndarray) -> None:
    turns = find_turns(speech, RATE, 2, "pitch")
    mono = torch.from_numpy(speech[:1])
    tracks = by_speaker(Tracks([mono], music=mono, rate=RATE), turns)
    assert len(tracks.speech) == 2 and tracks.music is mono
    assert torch.allclose(tracks.speech[0] + tracks.speech[1], mono, atol=1e-6)
    longer = torch.nn.functional.pad(mono, (0, RATE))  # beyond the last frame the last speaker goes on
    assert torch.allclose(sum(by_speaker(Tracks([longer], rate=RATE), turns).speech), longer, atol=1e-6)


def test_fewer_voices_than_asked_for_are_told(speech: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"^talk.wav: 2 voices are heard, --speakers asks for 3; ask for as many, an"):
        check_speakers(find_turns(speech, RATE, 3, "pitch"), 3, "talk.wav")
    with pytest.raises(UserError, match=r"^talk.wav: one voice is heard, --speakers asks for 2"):
        check_speakers(find_turns(speech[:, : RATE // 2], RATE, 2, "pitch"), 2, "talk.wav")
    silence = find_turns(0 * speech, RATE, 2, "pitch")
    with pytest.raises(UserError, match=r"^talk.wav: nobody is heard to speak; --speakers 2 needs 2 voices in it$"):
        check_speakers(silence, 2, "talk.wav")
    assert split_speech(speech, RATE, silence)[0] is speech


def test_what_sounds_at_once_is_told_and_in_both_tracks() -> None:
    active = np.zeros((2, 100), bool)
    active[0, 10:60] = active[1, 40:90] = True
    turns = Turns(active, active.all(0))
    assert in_seconds(turns) == {
        "speech1": [[pytest.approx(0.1), pytest.approx(0.6)]],
        "speech2": [[pytest.approx(0.4), pytest.approx(0.9)]],
        "overlap": [[pytest.approx(0.4), pytest.approx(0.6)]],
    }
    assert describe(turns)[2].startswith("warning: two voices at once at 0.40-0.60 s: they are not parted, both people")
    first, second = split_speech(np.ones((1, RATE), np.float32), RATE, turns)
    both = slice(int(0.42 * RATE), int(0.58 * RATE))
    assert (first[:, both] == 1).all() and (second[:, both] == 1).all()
    assert not first[0, int(0.62 * RATE) :].any() and not second[0, : int(0.38 * RATE)].any()


def test_a_pipeline_in_the_place_of_an_embedder_is_asked_for_as_many(
    tmp_path: Path, speech: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_files(tmp_path)
    planted = Planted(("b", 1.0, 1.5), ("a", 0.2, 0.8), ("a", 1.4, 2.1), ("c", 1.0, 1.001))
    monkeypatch.setattr(speakers, "load_diariser", {folder: Diariser(planted)}.__getitem__)
    turns = find_turns(speech, RATE, 2, str(folder))
    assert planted.most == 2 and planted.given["sample_rate"] == 16000
    assert in_seconds(turns) == {
        "speech1": [[0.2, 0.8], [pytest.approx(1.4), pytest.approx(2.1)]], "speech2": [[1.0, 1.5]],
        "overlap": [[pytest.approx(1.4), 1.5]],
    }  # fmt: skip
    check_embedder(str(folder))
    with pytest.raises(UserError, match="embedder nowhere: is unknown"):
        check_embedder("nowhere")
