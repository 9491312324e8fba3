"""The tab Live: a puppet that speaks along with the microphone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from ccl.app.desk import Desk, Work
from ccl.app.fields import PROMPT, checkpoint, number, text
from ccl.app.jobs import Job
from ccl.app.live import LivePart
from ccl.app.players import status

PIECE = 0.25  # s of sound that the browser sends at a time


def build(desk: Desk) -> None:
    """Put the tab on the page that is being built."""
    with gr.Row():
        with gr.Column(scale=2):
            prompt = text("Text: who is to be seen", PROMPT, lines=3)
            microphone = gr.Audio(
                sources=["microphone"], streaming=True, type="numpy", label="Your voice", buttons=[],
                elem_id="live-microphone",
            )  # fmt: skip
            with gr.Accordion("Settings", open=False):
                model = checkpoint(desk.shelf.driven_names, value=_few_steps_first(desk))
                with gr.Row():
                    seed, steps = number("Seed", "0"), number("Steps", "the model's own")
        with gr.Column(scale=3):
            seen, told = gr.HTML(elem_id="live-view"), gr.HTML(elem_id="live-status")
    microphone.start_recording(_beginner(desk), None, [seen, told], show_progress="hidden")
    microphone.stream(
        _hearer(desk), [microphone, prompt, model, seed, steps], [seen, told], stream_every=PIECE,
        show_progress="hidden", concurrency_limit=None, time_limit=None,
    )  # fmt: skip


def _few_steps_first(desk: Desk) -> str:
    """Choose the first checkpoint that is made for few steps, if there is one."""
    return next((name for name in desk.shelf.driven_names if desk.shelf.is_few_steps(name)), desk.shelf.driven_names[0])


def _beginner(desk: Desk) -> Callable[..., tuple[str, str]]:
    def begin(request: gr.Request) -> tuple[str, str]:
        desk.session(request.session_hash).kept.pop("live", None)
        return "", ""

    return begin


def _hearer(desk: Desk) -> Callable[..., tuple[Any, Any]]:
    """Make what takes in a piece of the microphone's sound; Gradio takes one answer for each."""

    def hear(sound: Any, prompt: str, model: str, seed: str, steps: str, request: gr.Request) -> tuple[Any, Any]:
        if sound is None:
            return gr.skip(), gr.skip()
        session, values = desk.session(request.session_hash), {"prompt": prompt, "seed": seed, "steps": steps}
        rate, samples = sound

        def prepare() -> Work:
            whole = desk.shelf.model_options(model) | values
            part = session.kept.get("live")
            if part is None or part.values != whole:
                part = session.kept["live"] = LivePart(whole)

            def work(job: Job) -> None:
                part.hear(job, desk.shelf, samples, rate)

            return work

        seen = None
        for update in desk.follow(session, "live", prepare):
            if update.state == "failed":
                return gr.skip(), status(update)
            if update.results and not update.ended:
                seen = update.results[-1], status(update)
        return seen or (gr.skip(), gr.skip())

    return hear
