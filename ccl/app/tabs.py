"""The page's tabs, as its checkpoints allow them."""

from __future__ import annotations

import gradio as gr

from ccl.app import tab_compare, tab_drive, tab_live, tab_look, tab_make
from ccl.app.desk import Desk


def build(desk: Desk) -> gr.Blocks:
    """Build the page."""

    def leave(request: gr.Request) -> None:
        desk.leave(request.session_hash)

    with gr.Blocks(title="CCL", analytics_enabled=False, fill_width=True) as page:
        if desk.shelf.joint_names:
            with gr.Tab("Make"):
                tab_make.build(desk)
        if desk.shelf.driven_names:
            with gr.Tab("Drive"):
                tab_drive.build(desk)
            with gr.Tab("Live"):
                tab_live.build(desk)
        with gr.Tab("Look") as look:
            chosen, choices = tab_look.build(desk)
            look.select(choices, None, chosen)
        if desk.shelf.joint_names:
            with gr.Tab("Compare"):
                tab_compare.build(desk)
        page.unload(leave)
    page.queue(default_concurrency_limit=None)
    return page
