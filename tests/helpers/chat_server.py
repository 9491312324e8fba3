"""A small server that speaks OpenAI's chat protocol, and fails as told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: What happens at a request: a text is the model's answer, a number an error of that code, a pair a code and a header
#: Retry-After, "hang" no answer in time, "cut" a connection that breaks, "odd" JSON of another protocol.
Act = str | int | tuple[int, str]


class ChatServer:
    """Plays `acts` one after the other, the last for ever; `requests` are the bodies it got, `keys` their tokens."""

    def __init__(self, acts: Sequence[Act]) -> None:
        self.acts, self.requests, self.keys = list(acts), list[dict[str, Any]](), list[str | None]()
        self.url = ""

    def next_act(self) -> Act:
        return self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]


@contextmanager
def chat_server(*acts: Act) -> Iterator[ChatServer]:
    """Serve on a port of this machine."""
    state = ChatServer(acts)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.path == "/v1/chat/completions" and self.headers["Content-Type"] == "application/json"
            state.requests.append(body)
            state.keys.append(self.headers.get("Authorization"))
            act = state.next_act()
            if act == "hang":
                time.sleep(1.0)
                return
            if act == "cut":
                self.connection.close()
                return
            if not isinstance(act, str):
                code, after = act if isinstance(act, tuple) else (act, "")
                return self.answer(code, {"error": {"message": f"code {code}"}}, after)
            odd = {"text": "hello"}
            message = {"role": "assistant", "content": act}
            usual = {"object": "chat.completion", "model": body["model"], "choices": [{"index": 0, "message": message}]}
            return self.answer(200, odd if act == "odd" else usual)

        def answer(self, code: int, content: dict[str, Any], after: str = "") -> None:
            data = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            if after:
                self.send_header("Retry-After", after)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
