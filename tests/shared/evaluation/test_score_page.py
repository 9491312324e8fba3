"""The page: the worst clips by each metric, their curves, and no markup of theirs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from browser import chromium, in_browser
from pages import Page

from shared.data.manifest import Clip
from shared.evaluation.metrics.base import Result
from shared.evaluation.score_clips import ClipSet
from shared.evaluation.score_page import badness, details, entry, points, worst, write_page
from shared.evaluation.score_tables import over_clips

VALUES = {"0": 3.0, "1": 1.0, "2": None, "3": 2.0}


def clips(folder: Path) -> list[Clip]:
    return [Clip(id=name, video=folder / f"{name}.mp4", caption="<b>bold</b>") for name in VALUES]


def results() -> dict[str, dict[str, Result]]:
    facts = {"curve": [1.0, None, 3.0], "nested": {"lag": -2}, "note": "<i>"}
    return {n: {"m": Result(v, "" if v is not None else "silent", facts)} for n, v in VALUES.items()}


def test_the_worst_are_chosen_and_refused_ones_too(tmp_path: Path) -> None:
    for better, wanted in (("higher", ["1", "2"]), ("lower", ["0", "2"]), ("zero", ["0", "2"])):
        assert [clip.id for clip in worst(clips(tmp_path), results(), {"m": better}, 1)] == wanted  # type: ignore[dict-item]
    assert [clip.id for clip in worst(clips(tmp_path), results(), {}, 3)] == ["0", "1", "2"]
    assert badness(-3.0, "zero") == 3


def test_facts_become_curves_and_words() -> None:
    found = list(details("m", results()["0"]["m"]))
    assert found[0] == {"label": "m: curve", "low": "1", "high": "3", "points": "0.0,58.0 300.0,2.0"}
    assert found[1:] == [{"label": "m: nested lag", "value": "-2"}, {"label": "m: note", "value": "<i>"}]
    seconds = list(details("m", Result(1.0, facts={"onsets_s": [0.5, 1.25]})))
    assert seconds == [{"label": "m: onsets s", "value": "[0.5, 1.25]"}]
    (lags,) = details("m", Result(1.0, facts={"lags_s": [step / 100 for step in range(-20, 21)]}))
    assert lags["value"] == "-0.2 to 0.2, 41 numbers"
    assert [one["value"] for one in details("m", Result(1.0, facts={"f1": 6 / 7}))] == ["0.8571"]
    assert points([1.0, 1.0], 1.0, 1.0) == "0.0,58.0 300.0,58.0"


@pytest.mark.parametrize(("span", "ending"), [((0, None), ".mp4"), ((1.5, None), "#t=1.5"), ((0, 2), "#t=0,2")])
def test_a_span_of_a_file_is_what_is_played(tmp_path: Path, span: tuple[float, float | None], ending: str) -> None:
    cut = clips(tmp_path)[0].model_copy(update={"start": span[0], "end": span[1]})
    assert entry("a", cut, results()["0"], {"m": "higher"}, tmp_path, 0)["link"].endswith(ending)


@pytest.mark.parametrize("large", [False, True])
def test_the_page_holds_all_and_escapes_it(tmp_path: Path, large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if large:
        monkeypatch.setattr("shared.evaluation.score_page.LARGEST", 3)
    one = ClipSet("a<b", tmp_path, clips(tmp_path))
    for clip in one.clips:
        Path(str(clip.video)).write_bytes(b"film")
    metric: dict[str, Any] = {
        "better": "higher", "over_sets": False, "preprocessing": {"fps": 8}, "preprocessing_hash": "h", "weights": "",
        "sets": {"a<b": over_clips({name: found["m"] for name, found in results().items()})}, "pairs": [],
    }  # fmt: skip
    result = {"metrics": {"m": metric}, "versions": {"code": "c"}, "compared_anyway": []}
    write_page(tmp_path / "index.html", result, [one], {"a<b": results()}, 1)
    text = (tmp_path / "index.html").read_text()
    links = [one.get("href") for one in Page(text).attributes.get("a", [])]
    assert links == ([f"{name}.mp4" for name in "12"] if large else [])
    assert text.count("<section") == 2 and text.count("<video") == (0 if large else 2)
    assert "&lt;b&gt;bold" in text and "<i>" not in text and "refused: silent" in text and "<polyline" in text
    assert not re.search(r"""(src|href)=["']?http""", text)


def test_the_worst_come_first_in_a_browser(tmp_path: Path) -> None:
    chromium()
    one, two = (ClipSet(name, tmp_path, clips(tmp_path)) for name in ("ours", "theirs"))
    told = {name: {"m": found["m"], "n": Result(-(found["m"].value or 0.0))} for name, found in results().items()}
    metrics: dict[str, Any] = {
        name: {
            "better": "higher", "over_sets": False, "preprocessing": {}, "preprocessing_hash": "h", "weights": "",
            "sets": {s: over_clips({clip: found[name] for clip, found in told.items()}) for s in ("ours", "theirs")},
            "pairs": [],
        }
        for name in ("m", "n")
    }  # fmt: skip
    result = {"metrics": metrics, "versions": {}, "compared_anyway": []}
    write_page(tmp_path / "index.html", result, [one, two], {"ours": told, "theirs": told}, 4)
    script = """
      const order = () => clips.filter(clip => clip.offsetParent).map(clip => clip.querySelector("h3").textContent);
      const first = order(); metric.value = "n"; metric.onchange(); const other = order();
      set.value = "theirs"; set.onchange(); return [first, other, order()];"""
    first, other, chosen = in_browser(tmp_path / "index.html", script, tmp_path)
    assert first == [f"{clip} {name}" for clip in "1302" for name in ("ours", "theirs")]  # 2 was refused
    assert other[:2] == ["0 ours", "0 theirs"] and chosen == ["0 theirs", "3 theirs", "1 theirs", "2 theirs"]
