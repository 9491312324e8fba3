from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from chat_server import chat_server

from mtv.captions import compose
from shared.curation.captions import caption, checked, written
from shared.curation.config import DemixConfig
from shared.curation.record import Context, Finding, Record, Tools
from shared.data.media_write import write_video
from shared.utils.errors import UserError

GOOD = json.dumps({"people": ["a man", "a woman in red "], "scene": "A garden at night.", "sound": "A bell rings."})


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("f") / "x.mp4"
    write_video(path, np.full((8, 32, 64, 3), 90, np.uint8), 8, np.full((1, 16000), 0.1, np.float32), 16000)
    return path


def found(film: Path, output: Path, **settings: object) -> Finding:
    config = DemixConfig.model_validate({"captions": settings})
    record = Record("k", film, "k", 0.0, 1.0, "", {"people": {"people": [{}, {}]}})
    return caption(record, Context(config, output, Tools(None, compose)))  # type: ignore[arg-type]


def served(film: Path, output: Path, url: str, **settings: object) -> Finding:
    return found(film, output, source="server", url=url, model="eyes", pause=0.001, most_per_minute=1e6, **settings)


def test_a_model_sees_the_clip_and_its_answer_is_read(film: Path, tmp_path: Path) -> None:
    with chat_server(f"Here it is:\n```json\n{GOOD}\n```") as server:
        finding = served(film, tmp_path, server.url, pictures=3, side=32, hears=True)
    assert finding.figures["people"] == ["a man", "a woman in red"] and finding.figures["repaired"] is False
    assert finding.figures["scene"] == "A garden at night." and finding.figures["sound"] == "A bell rings."
    text, *parts = server.requests[0]["messages"][0]["content"]
    assert [part["type"] for part in parts] == ["image_url"] * 3 + ["input_audio"]
    assert "exactly 2 entries" in text["text"] and '{"people": ["...", "..."], "scene"' in text["text"]


def test_a_bad_answer_is_sent_back_once_with_the_reason(film: Path, tmp_path: Path) -> None:
    with chat_server('{"people": ["a man"], "scene": "a garden"}', GOOD) as server:
        assert served(film, tmp_path, server.url).figures["repaired"] is True
    *_, said, again = server.requests[1]["messages"]
    assert said["role"] == "assistant" and "people has 1 entries, and 2 are needed" in again["content"]


def test_nonsense_twice_drops_the_clip_with_both_reasons(film: Path, tmp_path: Path) -> None:
    with chat_server("I am a fish", '{"people": ["a man", "x"], "scene": "a garden"}') as server:
        finding = served(film, tmp_path, server.url)
    assert (finding.verdict, finding.cause) == ("drop", "caption refused") and len(server.requests) == 2
    assert "it holds no JSON object" in finding.reason and "people.1: String should have at least 2" in finding.reason


def test_a_server_that_fails_is_no_verdict_about_the_clip(film: Path, tmp_path: Path) -> None:
    with chat_server(500) as server, pytest.raises(UserError, match="no answer in 2 tries"):
        served(film, tmp_path, server.url, tries=2)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("[1]", "no JSON object"),
        ('{"people": [], "scene": "a garden"}', "people has 0 entries"),
        ('{"people": ["a man", "a dog"]}', "scene: Field required"),
        ('{"people": "a man", "scene": "a garden"}', "people: Input should be a valid list"),
        ('{"people": ["a man", "Person1: me"], "scene": "a garden"}', "plain text without the template's own words"),
    ],
)
def test_answers_that_cannot_be_used(said: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        checked(said, 2, Context(DemixConfig(), Path(), Tools(None, compose)))  # type: ignore[arg-type]


def test_the_users_own_texts(film: Path, tmp_path: Path) -> None:
    assert found(film, tmp_path, source="files").figures["scene"] == ""
    film.with_suffix(".txt").write_text("A garden.\nA bell rings.\n")
    assert written(film) == ("A garden.", "A bell rings.")
    assert found(film, tmp_path, source="files").figures == {
        "people": [],
        "scene": "A garden.",
        "sound": "A bell rings.",
    }
    assert found(film, tmp_path, source="none").figures["scene"] == ""
    film.with_suffix(".txt").write_text("1\n2\n3")
    with pytest.raises(UserError, match="3 lines; a caption, or a caption and an audio caption"):
        written(film)
    film.with_suffix(".txt").unlink()


def test_a_model_of_its_own_is_asked_for_the_sound_alone(film: Path, tmp_path: Path) -> None:
    with chat_server(GOOD) as server, chat_server("A bell.", '{"sound": "A dog barks."}') as ears:
        other = {"sound_model": "ears", "sound_url": ears.url}
        figures = served(film, tmp_path, server.url, pictures=2, side=32, **other).figures
    assert figures["sound"] == "A dog barks." and figures["scene"] == "A garden at night." and figures["repaired"]
    assert (figures["model"], figures["sound_model"]) == ("eyes", "ears")
    text, *parts = server.requests[0]["messages"][0]["content"]
    assert "sound" not in text["text"] and [part["type"] for part in parts] == ["image_url"] * 2
    text, *parts = ears.requests[0]["messages"][0]["content"]
    assert '{"sound": "..."}' in text["text"] and [part["type"] for part in parts] == ["input_audio"]
    assert ears.requests[0]["model"] == "ears" and "no JSON object" in ears.requests[1]["messages"][2]["content"]


def test_a_sound_that_is_not_told_twice_drops_the_clip(film: Path, tmp_path: Path) -> None:
    with chat_server(GOOD, '{"heard": "A bell."}') as server:
        finding = served(film, tmp_path, server.url, sound_model="ears")
    assert finding.verdict == "drop" and finding.reason.startswith("ears answers what cannot be used: sound: Field")
    assert [request["model"] for request in server.requests] == ["eyes", "ears", "ears"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "model: the server's name"),
        ({"url": "here", "model": "m"}, r"captions\.url: here is no address"),
        ({"sound_url": "here", "model": "m"}, r"captions\.sound_url: here is no address"),
        ({"source": "transformers"}, "model: a folder, or a name of the hub, is needed"),
        ({"model": "m", "sound_model": "e", "hears": True}, "sound_model: hears is true: the sound goes to one model"),
        ({"source": "files", "sound_model": "e"}, "sound_model: source files asks no model"),
    ],
)
def test_what_a_model_needs(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        DemixConfig.model_validate({"captions": {"source": "server"} | settings})
