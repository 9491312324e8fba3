from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from films import Segment

from mtv.captions import compose
from mtv.demix import separated
from shared.curation.build import build
from shared.curation.config import DemixConfig
from shared.curation.join import joined_clip, runs, whole
from shared.curation.record import Kept, Record, Tools
from shared.curation.sources import Source
from shared.data.manifest import Clip, read_manifest
from shared.data.media import probe

NO_BARS = [0.0] * 4


def kept(start: float, end: float, film: str = "a", caption: str = "", bars: list[float] = NO_BARS) -> Kept:
    record = Record(f"{film}{start}", Path(f"{film}.mp4"), film, start, end)
    return Kept(record, {"technical": {"bars": bars}, "template": {"caption": caption}}, False)


def test_shots_are_joined_that_follow_each_other_and_are_alike() -> None:
    same = [kept(0, 2), kept(2, 5), kept(5, 9), kept(9, 10)]
    assert [len(run) for run in runs(same, 6)] == [2, 2] and [len(run) for run in runs(same, None)] == [1] * 4
    others = (kept(2.5, 4), kept(2, 4, "b"), kept(2, 4, caption="A bell."), kept(2, 4, bars=[0.1, 0.1, 0.0, 0.0]))
    assert [len(runs([kept(0, 2), other], 10)) for other in others] == [2] * 4


def clip(caption: str, subsets: list[str], **more: str) -> Clip:
    return Clip(id="x", video=Path("x.mp4"), caption=caption, subsets=subsets, **more)  # type: ignore[arg-type]


def test_texts_are_told_where_they_begin_and_once() -> None:
    record = whole([kept(1, 3), kept(3, 6), kept(6, 7)])
    assert (record.start, record.end, record.key != whole([kept(1, 3), kept(3, 7)]).key) == (1, 7, False)
    parts = [clip("A man.", ["ambience"], audio_caption="Rain."), clip("A man.", [], audio_caption="Rain.")]
    made = joined_clip(record, Path("v.mp4"), {}, [*parts, clip("A dog.", ["ambience"], audio_caption="Rain.")])
    assert made.prompts == [(0, "A man."), (5, "A dog.")] and made.caption == "A man. A dog."
    assert (made.audio_prompts, made.audio_caption, made.subsets) == ([], "Rain.", [])


def test_what_is_said_is_told_when_it_is_said() -> None:
    record = whole([kept(1, 3), kept(3, 6), kept(6, 7)])
    words = [[(0.5, 0.9, "Yes.")], [], [(0.25, 0.5, "No."), (0.5, 0.75, "No!")]]
    texts = zip(("Yes.", "", "No. No!"), ("en", "", "en"), words, strict=True)
    parts = [
        Clip(id="x", video=Path("x.mp4"), caption="", transcript=text, language=code, words=spoken)
        for text, code, spoken in texts
    ]
    made = joined_clip(record, Path("v.mp4"), {}, parts)
    assert (made.transcript, made.language) == ("Yes. No. No!", "en")
    assert made.words == [(0.5, 0.9, "Yes."), (5.25, 5.5, "No."), (5.5, 5.75, "No!")]
    other = parts[2].model_copy(update={"language": "it"})
    assert joined_clip(record, Path("v.mp4"), {}, [*parts[:2], other]).language == ""


def test_joined_shots_are_one_clip_of_the_manifest(
    built: Path, film: tuple[Path, list[Segment]], config: DemixConfig, tmp_path: Path
) -> None:
    shutil.copytree(built, tmp_path / "set")
    longer = DemixConfig.model_validate(config.model_dump() | {"join": {"most_seconds": 60}})
    report = build([Source(film[0], "CC0-1.0")], tmp_path / "set", longer, Tools(separated, compose), 1)
    clips, shots = read_manifest(tmp_path / "set"), {clip.id: clip for clip in read_manifest(built)}
    joined = [clip for clip in clips if clip.id not in shots]
    assert joined and len(clips) == report.written < len(shots) == report.kept
    lines = [json.loads(line) for line in (tmp_path / "set/report.jsonl").read_text().splitlines()]
    for clip in joined:
        (line,) = [line for line in lines if line["id"] == clip.id]
        seconds = line["end"] - line["start"]
        assert line["stage"] == "join" and clip.video is not None and seconds > 3
        lengths = [probe(file).duration for file in (clip.video, *clip.tracks.values())]
        assert lengths == pytest.approx([seconds] * 4, abs=0.01)
    assert "shots are" in (tmp_path / "set/README.md").read_text()
