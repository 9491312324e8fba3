"""The page: tabs on one desk, served by uvicorn; a browser that shows it asks nobody else for anything."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ccl.app.desk import Desk
from ccl.app.options import LOOPBACK, AppOptions
from ccl.app.players import SCRIPT, STYLE
from ccl.app.shelf import Shelf
from shared.utils.errors import UserError
from shared.utils.launch import tell

LARGEST = "500mb"  # of a file that is given
#: Fonts of the system: Gradio's default theme would ask a server of Google for others.
FONTS = ("system-ui", "sans-serif")
#: What a browser may load: nothing but what comes from the page itself.
POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; connect-src 'self' data: blob:; worker-src 'self' blob:"
)


def serve(options: AppOptions) -> None:
    """Serve the page until it is stopped. UserError for a checkpoint that is none, a port that is taken, or without
    the packages."""
    shelf = Shelf(options)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before it is imported
    try:
        import gradio  # noqa: F401
        import uvicorn
    except ImportError as error:
        what = "which is not installed; run pip install --constraint constraints.txt --editable '.[app]'"
        raise UserError(f"the page needs the package {error.name}, {what}") from None
    listening = listen(options.host, options.port)
    with listening, TemporaryDirectory(prefix="ccl_page_") as folder:
        os.environ["GRADIO_TEMP_DIR"] = str(Path(folder) / "given")
        desk = Desk(shelf, Path(folder) / "made")
        config = uvicorn.Config(application(desk), log_level="warning", timeout_graceful_shutdown=2)
        if options.host not in LOOPBACK:
            tell(f"warning: --host {options.host}: whoever reaches this machine can use the page, without a password")
        print(f"http://{options.host}:{listening.getsockname()[1]}", flush=True)
        try:
            uvicorn.Server(config).run(sockets=[listening])
        finally:
            desk.close()


def listen(host: str, port: int) -> socket.socket:
    """Take the port, and listen. UserError where it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((host, port))
        taken.listen()  # so that who comes before the page is there waits for it
    except OSError as error:
        taken.close()
        raise UserError(f"--host {host} --port {port}: {error.strerror or error}; give another") from None
    return taken


def application(desk: Desk) -> Any:
    """Make the ASGI application of the page."""
    import gradio as gr
    from fastapi import FastAPI

    from ccl.app.tabs import build

    app = gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None), build(desk), path="/", css=STYLE, head=SCRIPT,
        theme=gr.themes.Default(font=FONTS, font_mono=("monospace",)), allowed_paths=[str(desk.folder)],
        show_error=True, max_file_size=LARGEST, ssr_mode=False, footer_links=[], run_history=False,
        enable_monitoring=False, pwa=False, mcp_server=False,
    )  # fmt: skip
    return KeptToItself(app)


class KeptToItself:
    """An ASGI application whose answers carry `POLICY`; a middleware of Starlette would hide from Gradio that a
    browser has gone."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"content-security-policy", POLICY.encode())]
            await send(message)

        await self.app(scope, receive, send_with_policy)
