from __future__ import annotations

import pytest

from shared.curation.subsets import SUBSETS, subsets_of


def named(heights: list[float], speaking: list[bool], silent: list[str]) -> list[str]:
    figures = {
        "people": {"people": [{"height": height} for height in heights]},
        "speech": {"speaking": speaking}, "demix": {"silent": silent},
    }  # fmt: skip
    return subsets_of(figures, 0.25)


@pytest.mark.parametrize(
    ("heights", "speaking", "silent", "names"),
    [
        ([0.4], [True], ["effects", "music"], ["basic_face", "single_character"]),
        ([0.1], [True], ["effects", "music"], ["single_character"]),
        ([0.4], [True], ["music"], ["single_character", "sound_event"]),
        ([0.4], [False], ["speech", "effects"], ["ambience"]),
        ([0.4, 0.4], [False, True], ["effects"], ["multiple_characters", "ambience"]),
        ([0.4, 0.4], [False, False], ["effects", "music"], []),
        ([], [], [], ["sound_event", "ambience"]),
    ],
)
def test_the_rules(heights: list[float], speaking: list[bool], silent: list[str], names: list[str]) -> None:
    assert named(heights, speaking, silent) == names and set(names) <= set(SUBSETS)
