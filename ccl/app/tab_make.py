"""The tab Make: text, and a first frame, a sound or a video, become clips of several seeds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from ccl.app.desk import Desk, Work
from ccl.app.fields import PROMPT, audio, buttons, canceller, checkpoint, number, picture, shown, text, video
from ccl.app.jobs import Job
from ccl.app.making import JointRequest, seeds_from
from ccl.app.players import MOST_CLIPS

TASKS = {"pictures and sound, or what is not given": "auto", "pictures alone": "t2v", "sound alone": "t2a"}


def build(desk: Desk) -> None:
    """Put the tab on the page that is being built."""
    with gr.Row():
        with gr.Column(scale=2):
            prompt = text("Text: what to see and to hear", PROMPT, lines=3)
            task = gr.Dropdown(list(TASKS), label="Make", value=next(iter(TASKS)))
            with gr.Row():
                duration = number("Seconds", "2, or as given")
                seed = number("First seed", "0")
                count = number("Clips", "2", "2")
            make, cancel = buttons("Make", "make")
            with gr.Accordion("Given: a first frame, a sound or a video", open=False):
                image = picture("First frame", elem_id="make-image")
                sound = audio("Sound to make a video for", elem_id="make-audio")
                film = video("Video to make a sound for", elem_id="make-video")
            with gr.Accordion("Settings", open=False):
                model = checkpoint(desk.shelf.joint_names)
                audio_prompt = text("Text of the sound, if it is another")
                negative = text("What to lead away from")
                with gr.Row():
                    steps = number("Steps", "the model's own")
                    window = number("Seconds at a time", "all at once")
                with gr.Row():
                    text_scale = number("Scale of the text", "the model's own")
                    context_scale = number("Scale of the other stream", "the model's own")
        with gr.Column(scale=3):
            told, clips = gr.HTML(elem_id="make-status"), gr.HTML(elem_id="make-clips")

    def run(
        prompt: str, task: str, image: Any, sound: Any, film: Any, duration: str, seed: str, count: str, model: str,
        audio_prompt: str, negative: str, steps: str, window: str, text_scale: str, context_scale: str,
        request: gr.Request,
    ) -> Iterator[tuple[str, str]]:  # fmt: skip
        session = desk.session(request.session_hash)

        def prepare() -> Work:
            values = desk.shelf.model_options(model) | {
                "prompt": prompt or " ", "task": TASKS[task], "image": image, "audio": sound, "video": film,
                "duration": duration, "audio_prompt": audio_prompt, "negative_prompt": negative, "steps": steps,
                "window": window, "text_scale": text_scale, "context_scale": context_scale,
            }  # fmt: skip
            asked = JointRequest(values, seeds_from(seed, count, MOST_CLIPS), session.new_folder("make"))

            def work(job: Job) -> None:
                for clip in asked.make(job, desk.shelf):
                    session.remember(clip, prompt)

            return work

        for update in desk.follow(session, "make", prepare):
            yield shown(update)

    given = [prompt, task, image, sound, film, duration, seed, count, model, audio_prompt, negative, steps, window]
    make.click(run, [*given, text_scale, context_scale], [told, clips], show_progress="hidden")
    cancel.click(canceller(desk, "make"), None, None, queue=False)
