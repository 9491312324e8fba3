"""The model card of a converted checkpoint."""

from __future__ import annotations

from shared.checkpoint.conversion.weight_map import ReportRow, as_markdown

OVI = {
    "full": """Ovi's own way of joining the towers (`fusion: full`). The towers and the fusion are Ovi's; its input and
output layers for sound are not, so the checkpoint makes no sound before it is trained.""",
    "cca": """Ovi's fusion as CCA of full width: q, o and norms are those of its text attention, k and v those of its
fusion. It is a start for training, not Ovi: CCA comes after the text attention, sees a partition of the other stream
and new context tokens, and turns queries in time only, where Ovi turns the video's on three axes.""",
}
OVI_AUDIO = """Ovi's audio codec (MMAudio, 16 kHz, 31.25 Hz, 20 values a token) is not ours. The audio stream's input
layer is new, its output layer too unless it has 20 values, and tokens may come at another rate: `audio.time_unit`
keeps the rotation per second that the tower was trained with."""


def conversion_card(
    source: str, rows: list[ReportRow], parts: list[str], missing: list[str], seed: int, into: str, commit: str
) -> str:
    """Markdown: what came from where, what is new and what is not there. `into`: for Ovi, the fusion; else empty."""
    absent = "".join(f"- not here: {text}\n" for text in missing)
    ovi = f"\n{OVI[into]}\n\n{OVI_AUDIO}\n" if into else ""
    return f"""---
library_name: diffusers
pipeline_tag: text-to-video
tags: [audio-video, joint-generation, cross-modal-context-learning]
---
# Converted from {source}

Not trained since. New parts are random or zero: train before sampling jointly. The licence of the source holds for
what came from it.
{ovi}
{as_markdown(rows)}

Other parts:
{"".join(f"- {text}" + chr(10) for text in parts)}{absent}
New tensors drew from seed {seed}. Written by code of commit {commit}.
"""
