"""What is measured of a clip is kept, and believed as long as nothing has changed; refusals are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_clips import write_clip

from shared.data.manifest import Clip
from shared.evaluation.metrics.base import Better, ClipMedia, Result
from shared.evaluation.score_clips import ClipSet, read_clips
from shared.evaluation.score_run import Work, jsonable, measure, measure_all, works_of
from shared.utils.errors import UserError


class Brightness:
    """A metric that counts how often it is asked; of sets, it gives features too."""

    better: Better = "higher"
    needs = frozenset({"video"})

    def __init__(self, name: str = "bright", features: bool = False) -> None:
        self.name, self.features, self.asked = name, features, 0

    def preprocessing(self) -> dict[str, Any]:
        return {}

    def fingerprint(self) -> str:
        return ""

    def clip(self, media: ClipMedia) -> Result:
        self.asked += 1
        frames = media.frames()
        rows = frames.mean((1, 2)).astype(np.float32) if self.features else None
        return Result(float(frames.mean()), facts={"curve": frames.mean((1, 2, 3))}, features=rows)


@pytest.fixture
def clips(tmp_path: Path) -> ClipSet:
    for number in range(3):
        write_clip(tmp_path / f"a/{number}.mp4", number, sound=False)
    return ClipSet("a", tmp_path / "a", read_clips(tmp_path / "a"))


def test_a_second_run_measures_nothing_and_says_the_same(clips: ClipSet, tmp_path: Path) -> None:
    metric, rows = Brightness(), Brightness("rows", True)
    both = {"bright": metric, "rows": rows}
    first = list(measure_all(works_of(clips, tmp_path / "o", {"bright": "1"}, None), both))
    assert metric.asked == 3 and rows.asked == 0
    more = list(measure_all(works_of(clips, tmp_path / "o", {"bright": "1", "rows": "1"}, None), both))
    again = list(measure_all(works_of(clips, tmp_path / "o", {"rows": "1", "bright": "1"}, None), both))
    assert metric.asked == rows.asked == 3
    assert [one["bright"].value for one in first] == [one["bright"].value for one in again]
    for one, other in zip(more, again, strict=True):
        assert np.array_equal(one["rows"].features, other["rows"].features)  # type: ignore[arg-type]


def test_what_changed_is_measured_anew(clips: ClipSet, tmp_path: Path) -> None:
    metric = Brightness("rows", True)
    work = works_of(clips, tmp_path / "o", {"rows": "1"}, None)[0]
    measure(work, {"rows": metric})
    measure(Work(work.clip, {"rows": "2"}, None, work.file), {"rows": metric})  # other preprocessing
    measure(Work(work.clip, {"rows": "2"}, 8.0, work.file), {"rows": metric})  # another frame rate asked for
    write_clip(clips.path / "0.mp4", 9, sound=False)
    measure(Work(work.clip, {"rows": "2"}, 8.0, work.file), {"rows": metric})
    assert metric.asked == 4
    work.file.with_suffix(".npz").unlink()
    measure(Work(work.clip, {"rows": "2"}, 8.0, work.file), {"rows": metric})
    assert metric.asked == 5
    work.file.with_suffix(".npz").write_bytes(b"PK damaged")
    with pytest.raises(UserError, match=r"is damaged .*; delete it to measure this clip anew"):
        measure(Work(work.clip, {"rows": "2"}, 8.0, work.file), {"rows": metric})


def test_processes_change_no_number(clips: ClipSet, tmp_path: Path) -> None:
    values = [
        [one["rows"].value for one in measure_all(works_of(clips, tmp_path / str(n), {"rows": "1"}, None), metrics, n)]
        for n, metrics in ((1, {"rows": Brightness("rows", True)}), (2, {"rows": Brightness("rows", True)}))
    ]
    assert values[0] == values[1] and len(values[0]) == 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"needs": frozenset({"audio"})}, "no sound"),
        ({"needs": frozenset({"text"})}, "no text"),
        ({"needs": frozenset({"speech"})}, "no track of speech"),
        ({"value": float("nan")}, "its value is nan"),
        ({"fps": 25.0}, "8 frames per second; 25 are asked for"),
        ({"broken": True}, "broken or not media"),
    ],
)
def test_refusals_are_named(clips: ClipSet, tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    metric = Brightness()
    metric.needs = change.get("needs", metric.needs)  # type: ignore[misc]
    clip = clips.clips[0].model_copy(update={"caption": ""})
    if "value" in change:
        metric.clip = lambda media: Result(change["value"])  # type: ignore[method-assign]
    if "broken" in change:
        Path(str(clip.video)).write_bytes(b"no clip")
    work = works_of(ClipSet("a", clips.path, [clip]), tmp_path / "o", {"bright": "1"}, change.get("fps"))[0]
    result = measure(work, {"bright": metric})["bright"]
    assert result.value is None and result.refused.startswith(reason)
    assert str(tmp_path) not in result.refused
    assert work.kept()["bright"].refused == result.refused


def test_a_bug_is_no_refusal(clips: ClipSet, tmp_path: Path) -> None:
    metric = Brightness()
    metric.clip = lambda media: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    with pytest.raises(ZeroDivisionError):
        measure(works_of(clips, tmp_path / "o", {"bright": "1"}, None)[0], {"bright": metric})


def test_what_is_said_of_anything_but_the_clip_is_no_refusal(clips: ClipSet, tmp_path: Path) -> None:
    metric = Brightness()

    def refuse(media: ClipMedia) -> Result:
        raise UserError("weights.safetensors: is missing")

    metric.clip = refuse  # type: ignore[method-assign]
    with pytest.raises(UserError, match="is missing"):
        measure(works_of(clips, tmp_path / "o", {"bright": "1"}, None)[0], {"bright": metric})


def test_files_of_clips_do_not_meet_and_facts_fit_json(tmp_path: Path) -> None:
    names = [
        Work.of(tmp_path, Clip(id=name, audio=Path("x.wav"), caption=""), {}, None).file for name in ("a/b", "a:b")
    ]
    assert names[0] != names[1] and all(file.parent == tmp_path for file in names)
    facts = {"a": np.float32(1.5), "b": np.arange(2), "c": [float("inf")], "d": (True, "x")}
    assert jsonable(facts) == {"a": 1.5, "b": [0, 1], "c": [None], "d": [True, "x"]}
