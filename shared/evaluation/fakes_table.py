"""What each measure says of clips that are made to fool it: one table, and a check that every fake is caught."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.evaluation.fakes import fakes_of
from shared.evaluation.held_out import HeldOut, code_picture, code_sound
from shared.evaluation.measures import LEAST_CLIPS, MEASURES, SceneClip, measure_clips
from shared.evaluation.validity import SceneReading
from shared.puppets.hearing import hear
from shared.utils.errors import UserError
from shared.utils.markdown import markdown_table
from shared.utils.progress import bar as progress_bar

CAUGHT = 0.8
"""Headline below which a measure has caught a fake."""
Scores = Mapping[str, Mapping[str, Any]]


def measure_fakes(pipeline: Any, level: str, clips: int, fakes: bool = True, style: str = "stage") -> dict[str, Scores]:
    """Scores of t2av by measure, of the true clips through the codecs ("true") and, with `fakes`, of every fake."""
    held_out = HeldOut.make(pipeline, level, clips, style=style)
    true = [SceneClip(spec, one.scene, one.audio) for spec, one in zip(held_out.specs, held_out.coded, strict=True)]
    found = {"true": _scores(true, true, held_out)}
    for name, fake in progress_bar([*fakes_of(level).items()] if fakes else [], desc="fakes", unit="fake"):
        made = []
        for spec, clip, coded in zip(held_out.specs, held_out.rendered, held_out.coded, strict=True):
            frames, sound = fake.make(spec, clip.frames, clip.sound)
            scene, audio = coded.scene, coded.audio
            if frames is not clip.frames:
                scene = SceneReading.read(code_picture(pipeline, frames), spec.fps, level, spec.style)
            if sound is not clip.sound:
                audio = hear(code_sound(pipeline, sound), spec.rate, level)
            made.append(SceneClip(spec, scene, audio))
        found[name] = _scores(made, true, held_out)
    return found


def _scores(made: list[SceneClip], true: list[SceneClip], held_out: HeldOut) -> Scores:
    scores: Scores = measure_clips("t2av", made, true, range(len(true)), held_out.cell)["scores"]
    return scores


def caught_by(scores: Scores) -> list[str]:
    """Measures that say of these clips that they are not true ones: far below the ceiling, or no better than chance."""
    return [
        name
        for name, score in scores.items()
        if score["value"] is not None and (score["headline"] is None or score["headline"] < CAUGHT)
    ]


def fakes_table(found: Mapping[str, Scores], clips: int) -> str:
    """Table of ceiling, floor and value of each fake, bold where the measure catches it, and what catches each fake.
    UserError for a fake that nothing catches."""
    caught = {name: caught_by(scores) for name, scores in found.items() if name != "true"}
    if free := [name for name, measures in caught.items() if not measures]:
        raise UserError(f"no measure catches {', '.join(free)} on these {clips} clips; give more --clips")
    names = [name for name in MEASURES if name in found["true"]]
    shown = [name for name in names if found["true"][name]["clips"] >= LEAST_CLIPS]
    rows = []
    for name in shown:
        best = found["true"][name]
        cells = [_number(best["ceiling"]), _number(best["floor"])]
        for fake, measures in caught.items():
            number = _number(found[fake][name]["value"])
            cells.append(f"**{number}**" if name in measures else number)
        rows.append([name.replace("_", " "), best["clips"], *cells])
    parts = [markdown_table(["measure", "clips", "ceiling", "floor", *caught], rows)]
    if few := [name.replace("_", " ") for name in names if name not in shown]:
        parts.append(f"Not shown, of fewer than {LEAST_CLIPS} clips: {', '.join(few)}.\n")
    if not caught:
        return "\n".join(parts)
    fakes = fakes_of("shows")  # which has those of every level
    lines = [[fake, fakes[fake].what, ", ".join(m.replace("_", " ") for m in caught[fake])] for fake in caught]
    parts.append(markdown_table(["fake", "what it is", "caught by"], lines))
    return "\n".join(parts)


def _number(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.2f}"
