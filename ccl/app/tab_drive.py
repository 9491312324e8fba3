"""The tab Drive: speech, effects and music drive a video; texts and pictures are placed on their waveforms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from ccl.app import timeline
from ccl.app.desk import Desk, Session, Work
from ccl.app.driving import DrivenRequest
from ccl.app.fields import PROMPT, audio, buttons, canceller, checkpoint, number, picture, shown, text
from ccl.app.jobs import Job, failed
from ccl.app.options import plainly
from ccl.app.players import MadeClip, status, thumbnails
from shared.utils.errors import UserError

SWAPPED = {"speech": "speech", "speech of a second person": "speech2", "effects": "effects", "music": "music"}
Keyframes = list[tuple[float, str]]


def build(desk: Desk) -> None:
    """Put the tab on the page that is being built."""
    with gr.Row():
        with gr.Column(scale=2):
            prompt = text("Text: what to see", PROMPT, lines=3)
            with gr.Row():
                speech, effects = audio("Speech", elem_id="drive-speech"), audio("Effects", elem_id="drive-effects")
            with gr.Row():
                music, second = audio("Music", elem_id="drive-music"), audio("Speech of a second person")
            mix = audio("A mix in their place, which filters take apart", elem_id="drive-mix")
            sounds = [speech, second, effects, music, mix]
            drive, cancel = buttons("Drive", "drive")
            with gr.Accordion("Settings", open=False):
                model = checkpoint(desk.shelf.driven_names)
                with gr.Row():
                    seed, steps = number("Seed", "0"), number("Steps", "the model's own")
                    window, fade = number("Seconds at a time", "2"), number("Fade between texts", "0, a cut")
                with gr.Row():
                    scales = [
                        number(f"Scale of {name}", "the model's own") for name in ("text", "speech", "effects", "music")
                    ]
        with gr.Column(scale=3):
            placed = _timeline(sounds)
            told, clips = gr.HTML(elem_id="drive-status"), gr.HTML(elem_id="drive-clips")
            with gr.Accordion("Swap one track, and compare", open=True):
                with gr.Row():
                    which = gr.Dropdown(list(SWAPPED), value="speech", label="Track")
                    other = audio("In its place; empty: silent", elem_id="drive-other")
                swap = gr.Button("Drive again, the rest as it was", elem_id="swap")

    given = [prompt, *sounds, model, seed, steps, window, fade, *scales, *placed]
    drive.click(_driver(desk), given, [told, clips], show_progress="hidden")
    swap.click(_swapper(desk), [which, other], [told, clips], show_progress="hidden")
    cancel.click(canceller(desk, "drive"), None, None, queue=False)


def _driver(desk: Desk) -> Callable[..., Iterator[tuple[str, str]]]:
    """Make what the button Drive does."""

    def run(
        prompt: str, speech: Any, speech2: Any, effects: Any, music: Any, mix: Any, model: str, seed: str,
        steps: str, window: str, fade: str, text_scale: str, speech_scale: str, effects_scale: str, music_scale: str,
        lines: str, keyframes: Keyframes, request: gr.Request,
    ) -> Iterator[tuple[str, str]]:  # fmt: skip
        values = {
            "prompt": prompt, "speech": speech, "speech2": speech2, "effects": effects, "music": music, "audio": mix,
            "seed": seed, "steps": steps, "window": window, "text_scale": text_scale, "speech_scale": speech_scale,
            "effects_scale": effects_scale, "music_scale": music_scale,
        }  # fmt: skip
        session = desk.session(request.session_hash)

        def prepare() -> Work:
            texts = timeline.texts_of(lines)
            whole = desk.shelf.model_options(model) | values | ({"fade": fade} if texts else {})
            return _work(desk, session, whole, texts, keyframes, "as given")

        for update in desk.follow(session, "drive", prepare):
            yield shown(update)

    return run


def _swapper(desk: Desk) -> Callable[..., Iterator[tuple[str, str]]]:
    """Make what the button below the choice of a track does."""

    def again(which: str, other: Any, request: gr.Request) -> Iterator[tuple[str, str]]:
        session = desk.session(request.session_hash)

        def prepare() -> Work:
            if "drive" not in session.kept:
                raise UserError("there is nothing to compare with yet; drive a video first")
            values, texts, keyframes, before = session.kept["drive"]
            track = SWAPPED[which]
            if values.get(track) is None and other is None:
                raise UserError(f"{which}: was silent, and no other is given; load or record one")
            caption = f"{which} {'silent' if other is None else 'swapped'}"
            return _work(desk, session, values | {track: other}, texts, keyframes, caption, before)

        for update in desk.follow(session, "drive", prepare):
            yield shown(update)

    return again


def _work(
    desk: Desk, session: Session, values: dict[str, Any], texts: timeline.Texts, keyframes: Keyframes, caption: str,
    before: MadeClip | None = None,
) -> Work:  # fmt: skip
    """Check a request; the work shows its video behind the one `before`, or is what later ones are compared with."""
    asked = DrivenRequest(values, session.new_folder("drive"), texts, keyframes)

    def work(job: Job) -> None:
        clip = asked.make(job, desk.shelf, caption, [] if before is None else [before])
        session.remember(clip, asked.prompt)
        if before is None:
            session.kept["drive"] = values, texts, keyframes, clip

    return work


def _timeline(sounds: list[gr.Audio]) -> tuple[gr.Textbox, gr.State]:
    """Build the waveforms on which texts and pictures are placed; gives the fields of both."""
    gr.Markdown("Load sounds, click on their waveforms where something is to happen, and place it there.")
    drawn = gr.Image(show_label=False, interactive=False, buttons=[], elem_id="drive-timeline")
    told = gr.HTML(elem_id="drive-placed")
    with gr.Row():
        at = number("At, seconds", "click above", "0", elem_id="drive-at")
        new = text("Text from then on")
        add = gr.Button("Place the text", elem_id="place-text")
    lines = gr.Textbox(
        label="Texts over time: SECONDS, TEXT", lines=2, elem_id="drive-lines", placeholder="none: the text above holds"
    )
    with gr.Row():
        still = picture("Keyframe", elem_id="drive-keyframe")
        with gr.Column():
            place = gr.Button("Place the picture", elem_id="place-picture")
            clear = gr.Button("Remove all pictures")
    shown_frames, keyframes = gr.HTML(elem_id="drive-keyframes"), gr.State([])
    fields = [*sounds, lines, keyframes, at]

    def draw(*values: Any) -> tuple[Any, str]:
        *files, lines, keyframes, at = values
        try:
            return _drawn(dict(zip(timeline.NAMES, files, strict=True)), lines, keyframes, at), ""
        except Exception as error:
            return None, status(failed(error))

    def click(event: gr.SelectData, *files: Any) -> str:
        longest = timeline.duration_of(timeline.read_sounds(dict(zip(timeline.NAMES, files, strict=True))))
        return f"{timeline.seconds_at(event.index[0], longest):g}"

    def place_text(lines: str, at: str, new: str) -> tuple[str, str]:
        try:
            return timeline.place_text(lines, timeline.time_of(at), new), ""
        except UserError as error:
            return lines, status(failed(error))

    def place_picture(keyframes: Keyframes, at: str, file: str | None) -> tuple[Keyframes, str, str]:
        try:
            keyframes = timeline.place_keyframe(keyframes, timeline.time_of(at), file)
            return keyframes, thumbnails(keyframes), ""
        except UserError as error:
            return keyframes, thumbnails(keyframes), status(failed(error))

    redraw = {"fn": draw, "inputs": fields, "outputs": [drawn, told], "show_progress": "hidden"}
    for sound in sounds:
        sound.change(**redraw)
    lines.change(**redraw)
    drawn.select(click, sounds, at).then(**redraw)
    add.click(place_text, [lines, at, new], [lines, told])
    place.click(place_picture, [keyframes, at, still], [keyframes, shown_frames, told]).success(**redraw)
    clear.click(lambda: ([], ""), None, [keyframes, shown_frames]).then(**redraw)
    return lines, keyframes


def _drawn(files: dict[str, str | None], lines: str, keyframes: Keyframes, at: str) -> Any:
    """Draw the timeline; None without a sound."""
    with plainly(files.values()):
        sounds = timeline.read_sounds(files)
    if not sounds:
        return None
    return timeline.draw(sounds, timeline.texts_of(lines), [time for time, _ in keyframes], timeline.time_of(at))
