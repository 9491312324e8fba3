"""Fields and buttons that several tabs of the page have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from ccl.app.desk import Desk
from ccl.app.jobs import Update
from ccl.app.players import players, status

PROMPT = (
    "One person conversation. Person1: a woman in a red shirt on the left. Person1 is speaking. "
    "Scene description: a big yellow bell rings twice under a warm bright light."
)


def text(label: str, value: str = "", lines: int = 1) -> gr.Textbox:
    """Make a field for a text."""
    return gr.Textbox(value, label=label, lines=lines, max_lines=8)


def number(label: str, empty: str, value: str = "", **options: Any) -> gr.Textbox:
    """Make a field for a number that may be left out; `empty` says what then. What stands in it is read as on a
    command line; Gradio's own field for numbers cannot be empty."""
    return gr.Textbox(value, label=label, placeholder=empty, max_lines=1, min_width=170, **options)


def checkpoint(names: Sequence[str], label: str = "Checkpoint", value: str | None = None) -> gr.Dropdown:
    """Make a choice among the checkpoints that can do what the tab does."""
    return gr.Dropdown(list(names), value=value or names[0], label=label)


def picture(label: str, **options: Any) -> gr.Image:
    """Make a field for a picture's file. It is handed over unread: Gradio would refuse a damaged one in its
    own words."""
    options |= {"sources": ["upload", "clipboard"], "buttons": []}  # none that shares it with others
    field = gr.Image(label=label, type="filepath", height=200, **options)
    field.preprocess = _path
    return field


def audio(label: str, **options: Any) -> gr.Audio:
    """Make a field for a sound that is loaded or recorded."""
    return gr.Audio(label=label, type="filepath", sources=["upload", "microphone"], buttons=[], **options)


def video(label: str, **options: Any) -> gr.Video:
    """Make a field for a video's file."""
    return gr.Video(label=label, sources=["upload"], height=240, buttons=[], **options)


def buttons(label: str, name: str) -> tuple[gr.Button, gr.Button]:
    """Make a button that begins, and one that cancels."""
    with gr.Row():
        return gr.Button(label, variant="primary", elem_id=name), gr.Button("Cancel", elem_id=f"{name}-cancel")


def canceller(desk: Desk, tab: str) -> Callable[..., None]:
    """Make what a button Cancel does: it ends the user's job of that tab."""

    def cancel(request: gr.Request) -> None:
        desk.cancel(desk.session(request.session_hash), tab)

    return cancel


def shown(update: Update) -> tuple[str, str]:
    """Line and players of an update."""
    return status(update), players(update.results)


def _path(payload: Any) -> str | None:
    return None if payload is None else payload.path
