"""Prompts over time: weights, files, and what is refused."""

from __future__ import annotations

import pytest
import torch

from shared.encoders.timed_prompts import TimedPrompts
from shared.utils.errors import UserError

TWO = TimedPrompts((0.0, 1.0, 1.6), ("a", "b", "c"), fade=0.4)


def test_weights_sum_to_one_and_are_not_negative():
    weights = TWO.weights(torch.linspace(-1, 4, 301))
    torch.testing.assert_close(weights.sum(0), torch.ones(301).double())
    assert (weights >= 0).all()


def test_a_text_holds_alone_away_from_changes_and_half_at_a_change():
    weights = TWO.weights(torch.tensor([0.0, 0.79, 1.0, 1.3, 1.6, 3.0]))
    expected = [[1, 0, 0], [1, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [0, 0.5, 0.5], [0, 0, 1]]
    torch.testing.assert_close(weights.T, torch.tensor(expected).double(), rtol=0, atol=1e-6)


def test_changes_closer_than_the_fade_still_sum_to_one():
    close = TimedPrompts((0.0, 1.0, 1.1), ("a", "b", "c"), fade=0.8).weights(torch.linspace(0, 2, 41))
    torch.testing.assert_close(close.sum(0), torch.ones(41).double())
    assert (close >= 0).all()


def test_one_text_counts_one_everywhere_and_prompts_are_left_as_they_are():
    assert torch.equal(TimedPrompts.of("x").weights(torch.rand(7)), torch.ones(1, 7).double())
    assert TimedPrompts.of(TWO) is TWO and TWO.changed(str.upper).texts == ("A", "B", "C")


def test_a_change_is_a_cut_unless_a_fade_is_given():
    cut = TimedPrompts((0.0, 1.0, 1.6), ("a", "b", "c")).weights(torch.tensor([0.0, 0.99, 1.0, 1.59, 1.6, 9.0]))
    assert cut.argmax(0).tolist() == [0, 0, 1, 1, 2, 2] and torch.equal(cut.amax(0), torch.ones(6).double())


def test_read_takes_seconds_and_a_text_with_commas(tmp_path):
    file = tmp_path / "p.txt"
    file.write_text("0, a bell, far away\n1.5, a drum\n")
    read = TimedPrompts.read(file)
    assert read.times == (0.0, 1.5) and read.texts == ("a bell, far away", "a drum") and read.fade == 0
    assert TimedPrompts.read(file, fade=0.4).fade == 0.4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"0, a\n\n1, b\n", "line 2.*SECONDS, TEXT"),
        (b"0, a\nsoon, b\n", "line 2"),
        (b"0, a\n1,\n", "line 2"),
        (b"0 a\n", "line 1"),
        (b"1, a\n", "p.txt.*must start at 0"),
        (b"0, a\n2, b\n1, c\n", "p.txt.*out of order"),
        (b"0, a\nnan, b\n", "out of order"),
        (b"", "p.txt"),
        (b"0, \xff\xfe\n", "UTF-8"),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path, content, message):
    file = tmp_path / "p.txt"
    file.write_bytes(content)
    with pytest.raises(UserError, match=message):
        TimedPrompts.read(file)


@pytest.mark.parametrize("fade", [-0.1, float("nan"), float("inf")])
def test_a_fade_that_cannot_be_is_refused(fade):
    with pytest.raises(UserError, match="the fade of timed prompts is"):
        TimedPrompts((0.0, 1.0), ("a", "b"), fade)


def test_a_missing_file_is_refused(tmp_path):
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(UserError, match=r"empty\.txt: has no line; at least one of SECONDS, TEXT"):
        TimedPrompts.read(tmp_path / "empty.txt")
    with pytest.raises(UserError, match="no such file"):
        TimedPrompts.read(tmp_path / "none.txt")
