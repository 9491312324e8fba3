"""Clips are chosen by what is told in them."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from shared.evaluation.choice import attributes, chosen
from shared.puppets.clip import told_by_captions
from shared.puppets.script import Spec, sample_spec
from shared.puppets.told import Told, ToldObject, ToldPerson


def script(index: int) -> Spec:
    return sample_spec(41, index)


def test_what_is_told_has_names() -> None:
    people = ToldPerson("man", side="left", speaks=True), ToldPerson("woman", shirt="red", speaks=False)
    told = Told(people, (ToldObject("bell", count=1),), pace="fast")
    assert attributes(told) == {
        "events", "side", "shirt", "count", "pace", "speech", "binding", "once", "one of two speaks"
    }  # fmt: skip
    assert attributes(Told(drifting=(("cloud", None),))) == {"drifting"}


def test_each_attribute_is_told_often_enough_by_fewer_clips() -> None:
    def told(specs: list[Spec]) -> Counter[str]:
        return Counter(name for spec in specs for name in attributes(told_by_captions(spec)))

    first, some = ([*islice(chosen(script, each), 60)] for each in (None, 15))
    assert [spec.index for spec in first] == [*range(60)] and told(first)["once"] < 15
    enough = told(some)
    assert {name for name, clips in enough.items() if clips < 15} == set() and {"once", "count"} <= enough.keys()
    indices = [spec.index for spec in some]
    assert indices == sorted(set(indices)) and indices[-1] > 60


def test_when_all_is_told_often_enough_every_clip_is_taken() -> None:
    indices = [spec.index for spec in islice(chosen(script, 1), 30)]
    assert indices[-20:] == [*range(indices[-20], indices[-20] + 20)]
