"""Is a face that should be silent there, and is its mouth shut?"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from shared.evaluation.bootstrap import Ratio
from shared.puppets.picture import render
from shared.puppets.readers import VideoReading, read_mouth
from shared.puppets.scene_fit import SIDE, canonical
from shared.puppets.script import Character, Spec, sample_spec


def face_scores(video: VideoReading) -> dict[str, Ratio]:
    """`face_visible`: of the faces that should be there, those that are. `mouth_opening`: mean opening of the mouths
    of those that are, 0 shut and 1 as wide as the puppets open a mouth; a frame counts at least 0.

    Each is a pair (sum, count), to be summed over clips.
    """
    shut, wide = mouth_range(video.mood)
    mouths = [mouth for mouth, face in zip(video.mouths, video.people, strict=True) if face.found]
    openings = [float(np.maximum(0, (mouth - shut) / (wide - shut)).mean()) for mouth in mouths]
    return {
        "face_visible": (float(len(mouths)), float(len(video.people))),
        "mouth_opening": (sum(openings), float(len(openings))),
    }


@cache
def mouth_range(mood: str) -> tuple[float, float]:
    """Calibrate `read_mouth`: what it reads from a shut mouth and from a wide open one in the light of a mood."""
    person = Character("man", "left", "red", 0.0, True, (), ())
    script: Spec = replace(sample_spec(0, 0), size=(SIDE, SIDE), fps=2, frames=2, mood=mood, characters=(person,),
                           props=(), distractors=(), pan=(0.0, 0.0), silence=None, music=False)  # fmt: skip
    frames = canonical(render(script, [np.array([0.0, 1.0])]))
    shut, wide = read_mouth(frames, np.zeros(2), "left")
    return float(shut), float(wide)
