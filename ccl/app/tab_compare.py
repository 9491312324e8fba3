"""The tab Compare: two checkpoints or settings, the same text and seed, and players in step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from ccl.app.comparing import SIDES, Comparison
from ccl.app.desk import Desk, Work
from ccl.app.fields import PROMPT, audio, buttons, canceller, checkpoint, number, picture, shown, text
from ccl.app.jobs import Job
from ccl.app.making import seeds_from

OWN = ("steps", "text_scale", "context_scale")


def build(desk: Desk) -> None:
    """Put the tab on the page that is being built."""
    names = desk.shelf.joint_names
    with gr.Row():
        with gr.Column(scale=2):
            prompt = text("Text: what to see and to hear", PROMPT, lines=3)
            with gr.Row():
                duration, seed = number("Seconds", "2, or as given"), number("Seed", "0")
            compare, cancel = buttons("Compare", "compare")
            with gr.Accordion("Given: a first frame or a sound", open=False):
                image, sound = picture("First frame"), audio("Sound to make a video for")
            fields: list[Any] = []
            for side, value in zip(SIDES, (names[0], names[-1]), strict=True):
                with gr.Group():
                    fields.append(checkpoint(names, f"{side}: checkpoint", value))
                    with gr.Row():
                        fields += [
                            number(f"{side}: steps", "the model's own"),
                            number(f"{side}: scale of the text", "the model's own"),
                            number(f"{side}: scale of the other stream", "the model's own"),
                        ]
        with gr.Column(scale=3):
            told, clips = gr.HTML(elem_id="compare-status"), gr.HTML(elem_id="compare-clips")

    def run(
        prompt: str, duration: str, seed: str, image: Any, sound: Any, model_a: str, steps_a: str, text_a: str,
        context_a: str, model_b: str, steps_b: str, text_b: str, context_b: str, request: gr.Request,
    ) -> Iterator[tuple[str, str]]:  # fmt: skip
        session = desk.session(request.session_hash)
        sides = (model_a, steps_a, text_a, context_a), (model_b, steps_b, text_b, context_b)

        def prepare() -> Work:
            values = {"prompt": prompt or " ", "duration": duration, "image": image, "audio": sound}
            own = [desk.shelf.model_options(side[0]) | dict(zip(OWN, side[1:], strict=True)) for side in sides]
            (number,) = seeds_from(seed, "1", 1)
            comparison = Comparison(values, own, number, session.new_folder("compare"))

            def work(job: Job) -> None:
                for clip in comparison.make(job, desk.shelf, [_told(*side) for side in sides]):
                    session.remember(clip, prompt)

            return work

        for update in desk.follow(session, "compare", prepare):
            yield shown(update)

    compare.click(run, [prompt, duration, seed, image, sound, *fields], [told, clips], show_progress="hidden")
    cancel.click(canceller(desk, "compare"), None, None, queue=False)


def _told(model: str, *settings: str) -> str:
    """Say what is of a side alone."""
    own = [f"{name.replace('_', ' ')} {value}" for name, value in zip(OWN, settings, strict=True) if value]
    return ", ".join([model, *own])
