from __future__ import annotations

import base64
import io
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import numpy as np
import pytest
from chat_server import chat_server
from PIL import Image

from shared.curation.chat import ask, keep_pace, picture_part, sound_part, text_part
from shared.curation.config import Captions
from shared.utils.errors import UserError


def settings(url: str, **other: object) -> Captions:
    return Captions.model_validate({"source": "server", "model": "eyes", "url": url, "timeout": 20} | other)


def asked(url: str, pace: Path, pauses: list[float], **other: object) -> str:
    message = {"role": "user", "content": [text_part("What is this?")]}
    return ask([message], settings(url, most_per_minute=1e6, **other), pace, pauses.append)


def test_a_question_and_its_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "secret")
    with chat_server("a garden") as server:
        assert asked(server.url, tmp_path / "pace", [], key_variable="MY_KEY") == "a garden"
        monkeypatch.delenv("MY_KEY")
        asked(server.url + "/", tmp_path / "pace", [], key_variable="MY_KEY")
    assert server.keys == ["Bearer secret", None]
    body = server.requests[0]
    assert body["model"] == "eyes" and body["max_tokens"] == 600 and body["temperature"] == 0
    assert body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "What is this?"}]}]


def test_what_passes_is_waited_for_as_long_as_the_server_asks(tmp_path: Path) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=50), usegmt=True)
    pauses: list[float] = []
    with chat_server(500, (429, "7"), "cut", "odd", (503, date), (503, "500"), "a garden") as server:
        assert asked(server.url, tmp_path / "pace", pauses, tries=7, pause=2.0) == "a garden"
    waits = [pause for pause in pauses if pause >= 1]
    assert waits[:4] == [2, 7, 8, 16] and 20 < waits[4] <= 50 and waits[5] == 60 and len(server.requests) == 7


def test_a_server_that_hangs_is_asked_again(tmp_path: Path) -> None:
    with chat_server("hang", "a garden") as server:
        assert asked(server.url, tmp_path / "pace", [], tries=9, timeout=0.5) == "a garden"


@pytest.mark.parametrize(
    ("acts", "said", "count"),
    [
        ((401,), r"/v1/chat/completions: refuses \(401 .*code 401", 1),
        ((500, 503), r"no answer in 3 tries; the last: 503 .*code 503", 3),
        (("odd",), r"no answer in 3 tries; the last: not an answer of OpenAI's protocol: .*hello", 3),
    ],
)
def test_what_does_not_pass_is_told_in_the_servers_words(
    tmp_path: Path, acts: tuple[int | str, ...], said: str, count: int
) -> None:
    with chat_server(*acts) as server, pytest.raises(UserError, match=said):
        asked(server.url, tmp_path / "pace", [], tries=3)
    assert len(server.requests) == count


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no answer in 2 tries; the last: .*refused"):
        asked("http://127.0.0.1:9/v1", tmp_path / "pace", [], tries=2)


def test_all_processes_keep_one_pace(tmp_path: Path) -> None:
    pauses: list[float] = []
    for _ in range(4):
        keep_pace(tmp_path / "pace", 0.6, pauses.append)
    assert pauses == pytest.approx([100, 200, 300], abs=20)
    (tmp_path / "pace").write_text(str(time.time() - 5))
    keep_pace(tmp_path / "pace", 0.6, pauses.append)
    assert len(pauses) == 3


def test_pictures_and_sound_go_as_the_protocol_has_them() -> None:
    pixels = np.full((20, 30, 3), 128, np.uint8)
    head, data = picture_part(pixels)["image_url"]["url"].split(",")
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    assert head == "data:image/jpeg;base64" and picture.size == (30, 20) and picture.format == "JPEG"
    part = sound_part(np.zeros(160, np.float32), 16000)["input_audio"]
    assert part["format"] == "wav" and len(base64.b64decode(part["data"])) == 44 + 320
