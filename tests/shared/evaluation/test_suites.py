"""Suites: texts from copies laid out as the public ones, and what is said of other clips and copies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.data.manifest import Clip
from shared.evaluation.metrics.registry import METRICS
from shared.evaluation.score_clips import ClipSet
from shared.evaluation.score_options import ScoreOptions
from shared.evaluation.suites import SUITES, coverage, incomplete, read_suite, with_texts
from shared.utils.cli import parse
from shared.utils.errors import UserError


def test_verse_bench(tmp_path: Path) -> None:
    item = {"video_prompt": "A man talks.", "audio_prompt": ["A man"], "speech_prompt": {"speaker": "1", "text": "Hi."}}
    for name, content in (("set3/data/01039", item), ("set1/data/7", item | {"speech_prompt": None})):
        file = tmp_path / f"{name}.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(content))
    texts = read_suite(f"verse-bench={tmp_path}")
    assert texts == {"set1_7": "A man talks.", "set3_01039": "A man talks. <S>Hi.<E>"}


def test_javisbench_and_seed_tts(tmp_path: Path) -> None:
    (tmp_path / "JavisBench-mini.csv").write_text('path,text\n/a.mp4,"A dog, barking"\n/b.mp4,A bell\n')
    texts = read_suite(f"javisbench={tmp_path / 'JavisBench-mini.csv'}")
    assert texts == {"sample_0000": "A dog, barking", "sample_0001": "A bell"}
    (tmp_path / "meta.lst").write_text("c-1|Hello.|prompt-wavs/a.wav|It rains.\nc-2|Hi.|b.wav|It snows.|wavs/c-2.wav\n")
    assert read_suite(f"seed-tts={tmp_path}") == {"c-1": "It rains.", "c-2": "It snows."}
    (tmp_path / "meta.lst").write_text("c-1|Hello.\n")
    with pytest.raises(UserError, match=r"meta.lst:1: NAME\|TEXT OF THE VOICE\|ITS FILE\|TEXT is needed"):
        read_suite(f"seed-tts={tmp_path}")


def test_mtv_is_a_folder_of_the_users(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"film")
    (tmp_path / "a.txt").write_text("One person.")
    assert read_suite(f"mtv={tmp_path}") == {"a": "One person."}


@pytest.mark.parametrize("name", SUITES)
def test_another_copy_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"--suite {name}=.*: no texts there; .* needed"):
        read_suite(f"{name}={tmp_path / 'nowhere'}")
    assert set(SUITES[name].metrics) <= METRICS.keys()


def test_clips_get_their_texts_and_what_is_missing_is_named(tmp_path: Path) -> None:
    clips = [Clip(id=name, video=tmp_path / f"{name}.mp4", caption="old") for name in ("a", "c")]
    one, texts = ClipSet("ours", tmp_path, clips), {"a": "An a.", "b": "A b.", "c": "A c."}
    assert [clip.caption for clip in with_texts(one, texts, "mtv=x").clips] == ["An a.", "A c."]
    assert coverage("mtv=x", texts, [one]) == {"suite": "mtv", "items": 3, "missing": {"ours": ["b"]}}
    assert incomplete(coverage("mtv=x", texts, [one])) == ["ours: 1 of 3 clips of mtv are missing, as b"]
    assert incomplete(None) == [] == incomplete(coverage("mtv=x", {"a": "An a.", "c": "A c."}, [one]))
    with pytest.raises(UserError, match=r"c is no name of --suite mtv=x; clips are named as a"):
        with_texts(one, {"a": "An a."}, "mtv=x")


def test_a_suite_names_its_metrics() -> None:
    words = ["clips", "--output", "o"]
    assert parse(ScoreOptions, "", [*words, "--suite", "seed-tts=x"]).metrics == ("wer",)
    assert parse(ScoreOptions, "", [*words, "--suite", "seed-tts=x", "--metrics", "dnsmos"]).metrics == ("dnsmos",)
    for more, reason in (
        ([], "--metrics is needed, or --suite"),
        (["--suite", "verse=x"], "--suite verse=x: NAME=PATH of your copy is needed; there are verse-bench"),
    ):
        with pytest.raises(UserError, match=reason):
            parse(ScoreOptions, "", [*words, *more])
