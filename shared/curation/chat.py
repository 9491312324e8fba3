"""Questions to a server that speaks OpenAI's protocol (vLLM, llama.cpp, SGLang and others), with pictures and sound.

What passes by itself is waited for: too many requests, a server that is overloaded or starts, a connection that breaks.
What does not is refused at once, in the server's words.
"""

from __future__ import annotations

import base64
import fcntl
import http.client
import io
import json
import os
import time
import urllib.error
import urllib.request
import wave
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.curation.config import Captions
from shared.utils.errors import UserError
from shared.utils.text_files import shortened

PASSING = (408, 409, 425, 429, 500, 502, 503, 504)
"""Answers of a server after which the same question may be answered."""
MOST_PAUSE = 60.0
"""Seconds that are waited between two tries at most, whatever the server says."""
LARGEST = 2**22  # bytes of an answer
Message = dict[str, Any]


def ask(
    messages: Sequence[Message], settings: Captions, pace: Path, sleep: Callable[[float], None] = time.sleep
) -> str:
    """Text that the server answers. `pace`: a file by which the processes of a run keep `most_per_minute` together.
    UserError, with the server's words, for what it refuses, or where the last try failed too."""
    body = {
        "model": settings.model, "messages": list(messages), "temperature": 0, "max_tokens": settings.most_tokens,
        "response_format": {"type": "json_object"},
    }  # fmt: skip
    url = settings.url.rstrip("/") + "/chat/completions"
    why, pause = "", 0.0
    for number in range(settings.tries):
        if number:
            sleep(min(pause or settings.pause * 2 ** (number - 1), MOST_PAUSE))
        keep_pace(pace, settings.most_per_minute, sleep)
        try:
            return _content(_post(url, body, settings))
        except urllib.error.HTTPError as error:
            said = shortened(error.read(2000).decode("utf-8", "replace").strip(), 300)
            why, pause = f"{error.code} {error.reason}: {said}", _asked_pause(error.headers.get("Retry-After"))
            if error.code not in PASSING:
                raise UserError(f"{url}: refuses ({why})") from None
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            reason = getattr(error, "reason", error)
            why, pause = str(reason) or type(reason).__name__, 0.0
        except ValueError as error:
            why, pause = str(error), 0.0
    raise UserError(f"{url}: no answer in {settings.tries} tries; the last: {why}")


def text_part(text: str) -> Message:
    """Put text into a message."""
    return {"type": "text", "text": text}


def picture_part(pixels: NDArray[np.uint8]) -> Message:
    """Put a picture [H, W, 3] into a message, as JPEG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    data = base64.b64encode(file.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}}


def sound_part(sound: NDArray[np.float32], rate: int) -> Message:
    """Put mono sound [N] into a message, as a wav of 16 bits."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, rate, 0, "NONE", "not compressed"))
        writer.writeframes(np.rint(np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(file.getvalue()).decode(), "format": "wav"}}


def keep_pace(file: Path, most_per_minute: float, sleep: Callable[[float], None] = time.sleep) -> None:
    """Wait until it is this process's turn; times are kept in `file`, which all processes of a run share."""
    interval = 60 / most_per_minute
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "a+", encoding="utf-8") as times:
        fcntl.flock(times, fcntl.LOCK_EX)
        times.seek(0)
        try:
            free = float(times.read())
        except ValueError:  # a new file
            free = 0.0
        now = time.time()
        turn = max(now, min(free, now + 10 * MOST_PAUSE))
        times.truncate(0)
        times.write(f"{turn + interval:.6f}")
    if turn > now:
        sleep(turn - now)


def _post(url: str, body: Message, settings: Captions) -> bytes:
    headers = {"Content-Type": "application/json"}
    if settings.key_variable and (secret := os.environ.get(settings.key_variable)):
        headers["Authorization"] = f"Bearer {secret}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=settings.timeout) as answer:
        content: bytes = answer.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f"an answer of more than {LARGEST} bytes")
    return content


def _content(answer: bytes) -> str:
    """Text of the first choice. ValueError for an answer that is none of the protocol."""
    try:
        text = json.loads(answer)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        text = None
    if not isinstance(text, str):
        raise ValueError(f"not an answer of OpenAI's protocol: {shortened(answer.decode('utf-8', 'replace'), 200)}")
    return text


def _asked_pause(header: str | None) -> float:
    """Seconds that `Retry-After` asks for, as a number or as a date; 0 for none."""
    if not header:
        return 0.0
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return 0.0
