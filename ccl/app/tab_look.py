"""The tab Look: a clip's figure with what is seen and heard, how they fit, and a model's attention on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from ccl.app.desk import Desk, Session, Work
from ccl.app.fields import buttons, canceller, checkpoint, number, text, video
from ccl.app.jobs import Job
from ccl.app.looking import MOUTHS, attention, look
from ccl.app.options import asked
from ccl.app.players import pictures, status
from ccl.generate import JointOptions
from shared.utils.errors import UserError

LOADED = "the one that is loaded"
MAPS = (
    "lct: on the context tokens; last: on the last sound in sight; right time: on the sound of the same moment; "
    "received: what the sound of that moment reads of the picture"
)


def build(desk: Desk) -> tuple[gr.Dropdown, Callable[..., Any]]:
    """Put the tab on the page that is being built; gives the choice of clips, and what brings it up to date."""
    with gr.Row():
        with gr.Column(scale=1):
            chosen = gr.Dropdown([LOADED], value=LOADED, label="Clip, of those made here", elem_id="look-clip")
            film = video("Or load one", elem_id="look-film")
            mouths = gr.Dropdown(list(MOUTHS), value=next(iter(MOUTHS)), label="Whose mouths")
            seek, cancel = buttons("Look", "look")
            if desk.shelf.joint_names:
                with gr.Accordion("Attention", open=True):
                    model = checkpoint(desk.shelf.joint_names)
                    caption = text("Text of the clip; empty: that it was made from")
                    level = number("Noise level", "0.5", "0.5")
                    attend = gr.Button("Where does it look?", elem_id="attend")
        with gr.Column(scale=3):
            told, found = gr.HTML(elem_id="look-status"), gr.HTML(elem_id="look-pictures")

    def choices(request: gr.Request) -> Any:
        names = list(desk.session(request.session_hash).clips)
        return gr.Dropdown(choices=[LOADED, *names], value=names[-1] if names else LOADED)

    seek.click(_looker(desk), [chosen, film, mouths], [told, found], show_progress="hidden")
    cancel.click(canceller(desk, "look"), None, None, queue=False)
    film.upload(lambda: LOADED, None, chosen)
    if desk.shelf.joint_names:
        attend.click(_attender(desk), [chosen, film, model, caption, level], [told, found], show_progress="hidden")
    return chosen, choices


def _clip(session: Session, chosen: str, film: str | None) -> tuple[Path, str]:
    """Find the clip that is meant, and the text that it was made from. UserError for none."""
    if chosen in session.clips:
        return session.clips[chosen]
    if film is None:
        raise UserError("no clip is chosen; make one, or load one")
    return Path(film), ""


def _looker(desk: Desk) -> Callable[..., Iterator[tuple[str, str]]]:
    """Make what the button Look does."""

    def inspect(chosen: str, film: str | None, mouths: str, request: gr.Request) -> Iterator[tuple[str, str]]:
        session = desk.session(request.session_hash)

        def prepare() -> Work:
            file, folder = _clip(session, chosen, film)[0], session.new_folder("look")

            def work(job: Job) -> None:
                job.progress("reading the clip", 0.1)
                looked = look(file, MOUTHS[mouths], folder)
                for line in looked.lines:
                    job.note(line)
                job.show(*looked.pictures)

            return work

        for update in desk.follow(session, "look", prepare):
            yield status(update), pictures(update.results)

    return inspect


def _attender(desk: Desk) -> Callable[..., Iterator[tuple[str, str]]]:
    """Make what the button below Attention does."""

    def maps(
        chosen: str, film: str | None, model: str, caption: str, level: str, request: gr.Request
    ) -> Iterator[tuple[str, str]]:
        session = desk.session(request.session_hash)

        def prepare() -> Work:
            (file, made_from), folder = _clip(session, chosen, film), session.new_folder("look")
            values = {"prompt": caption or made_from or "a clip", "output": folder / "x.mp4"}
            options = asked(JointOptions, desk.shelf.model_options(model) | values)

            def work(job: Job) -> None:
                job.progress("loading the model, and one forward pass", 0.1)
                job.show(attention(desk.shelf, options, file, caption or made_from, level, folder))
                job.note(MAPS)

            return work

        for update in desk.follow(session, "look", prepare):
            yield status(update), pictures(update.results)

    return maps
