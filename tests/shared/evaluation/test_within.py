"""Conditions are compared clip by clip, and a sentence fails as it says and not otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shared.evaluation import within
from shared.evaluation.within import Condition, Sentence, find, holm, judge, within_tables

SENTENCE = Sentence("x", 0.05, ("events", "count", "validity"), "simple", Condition("t2av"), Condition("t2av", 4))
RNG = np.random.default_rng(0)


def result(**by_score: np.ndarray) -> dict[str, Any]:
    return {"per_clip": {n: {"value": v.tolist(), "weight": [1] * len(v)} for n, v in by_score.items()}}


def test_equal_conditions_hold_and_a_lower_score_does_not() -> None:
    old = {name: RNG.random(120) for name in SENTENCE.scores}
    same = judge(result(**old), result(**old), SENTENCE, 30)
    assert same.holds and same.mean == 0 and set(same.scores) == set(SENTENCE.scores)
    worse = judge(result(**old | {"count": old["count"] - 0.2 - 0.01 * RNG.random(120)}), result(**old), SENTENCE, 30)
    assert worse.holds is False and worse.scores["count"].fails and not worse.scores["events"].fails
    assert worse.scores["count"].difference == pytest.approx(-0.205, abs=0.002)


def test_noise_fails_nothing_but_small_losses_everywhere_do() -> None:
    old = {name: RNG.random(120) for name in SENTENCE.scores}
    noise = 2 * RNG.random(120)
    noisy = judge(result(**old | {"count": old["count"] + noise - noise.mean()}), result(**old), SENTENCE, 30)
    low, high = noisy.scores["count"].interval
    assert noisy.holds and low < -0.05 < high
    lower = {name: values - 0.03 for name, values in old.items()}
    small = judge(result(**lower), result(**old), SENTENCE, 30)
    assert not any(score.fails for score in small.scores.values()) and small.mean == pytest.approx(-0.03)
    assert small.holds is False


def test_few_clips_and_scores_that_one_lacks_do_not_count() -> None:
    old = {"events": RNG.random(120), "count": RNG.random(29)}
    new = result(**old)
    new["per_clip"]["events"]["weight"][:20] = [0] * 20
    verdict = judge(new, result(**old), SENTENCE, 30)
    assert (list(verdict.scores), verdict.few, verdict.scores["events"].clips) == (["events"], ["count"], 100)
    assert judge(new, result(**old), SENTENCE, 121).holds is None


def test_intervals_are_corrected_by_holms_steps() -> None:
    draws = {name: RNG.normal(mean, 0.1, 20000) for name, mean in (("a", -0.5), ("b", -0.22), ("c", 0.0))}
    found = holm(draws, 0.0)
    for name, tail in (("a", 0.05 / 6), ("b", 0.05 / 4), ("c", 0.05 / 2)):
        assert found[name][0] == pytest.approx(tuple(np.quantile(draws[name], [tail, 1 - tail])))
    assert [found[name][1] for name in "abc"] == [True, False, False]
    # b alone would fail; behind one that does not, it does not either
    assert holm({"b": draws["b"] - 0.02}, 0.0)["b"][1]
    assert not any(fails for _, fails in holm({name: draws["b"] for name in "xyz"}, 0.0).values())


def metrics(task: str = "t2av", level: str = "simple", **config: Any) -> dict[str, Any]:
    score = RNG.random(40)
    tasks = {task: {"measures": result(events=score, count=score, mouth_agreement=score[:20])}}
    return {"config": {"level": level, "no_context": False} | config, "tasks": tasks}


def test_conditions_are_found_by_their_settings() -> None:
    plain, four, fast = metrics(), metrics(seconds=4), metrics(fps=24.0)
    every = [metrics(no_context=True), metrics(as_users_do=True), metrics(level="full"), four, fast, plain]
    assert find(every, "simple", Condition("t2av")) is plain["tasks"]["t2av"]
    assert find(every, "simple", Condition("t2av", seconds=4)) is four["tasks"]["t2av"]
    assert find(every, "simple", Condition("t2av", fps=24)) is fast["tasks"]["t2av"]
    assert find(every, "simple", Condition("a2v")) is None is find(every, "shows", Condition("t2av", held_out=True))
    two = metrics(seconds=2)
    assert find([two], "simple", Condition("t2av")) is two["tasks"]["t2av"]


def test_tables_are_of_what_there_is() -> None:
    text = within_tables([metrics(), metrics(seconds=4), metrics(level="shows", held_out=True)], 30)
    assert text.count("**clips of 4 s, against 2 s** (`simple`)") == 1 and "8 s" not in text and "shows" not in text
    assert "| events | 40 |" in text and "fewer than 100 clips" in text
    assert "Not compared, of fewer than 30 clips: mouth agreement." in text
    assert within_tables([metrics()], 30) == ""


def test_every_score_of_a_sentence_is_a_measure_of_its_task() -> None:
    from shared.evaluation.measures import names

    for sentence in within.SENTENCES:
        lacking = [{*sentence.scores} - {*names(one.task, sentence.level)} for one in (sentence.new, sentence.old)]
        assert lacking in ([set(), set()], [{"vowels"}, {"vowels"}]), sentence.what
