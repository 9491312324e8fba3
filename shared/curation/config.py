"""Configuration of the data builder: a section for each stage, thresholds with their units (docs/curation.md)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from shared.utils import config_file
from shared.utils.config_sections import Section, key
from shared.utils.errors import UserError
from shared.utils.ranges import Amount, Fps, Rate, Seconds, Seed, Side

#: Names of the stages, in order.
STAGE_NAMES = ("shots", "technical", "cut")
#: Mean brightness of a picture.
Brightness = Annotated[float, Field(gt=0, le=255)]


class Shots(Section):
    """Films into shots."""

    detector: Literal["adaptive", "content", "none"] = key(
        "adaptive", "PySceneDetect's detector of cuts; none: every file is one shot."
    )
    threshold: Amount | None = key(
        None, "The detector's threshold; null is PySceneDetect's own: adaptive 3, content 27."
    )
    least_content: Amount = key(15.0, "adaptive: change of a picture, 0 to 255, below which nothing is a cut.")
    fade_level: Brightness = key(12.0, "Mean brightness below which a film has faded to black.")
    least_seconds: Seconds = key(2.0, "Shots that are shorter are dropped.")
    most_seconds: Seconds = key(10.0, "Shots that are longer are divided into equal parts.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.least_seconds > self.most_seconds / 2:
            told = f"{self.least_seconds:g} s is more than half of most_seconds, {self.most_seconds:g} s"
            raise ValueError(f"shots.least_seconds: {told}; parts of a long shot would be dropped")
        return self


class Technical(Section):
    """What a clip must have as a file."""

    least_side: Side = key(256, "Pixels of the shorter side, without the bars of a letterbox.")
    least_fps: Fps = key(12.0, "Frames a second.")
    black_level: Brightness = key(16.0, "Mean brightness below which a frame is black.")
    most_black: Rate = key(0.1, "Share of black frames.")
    most_frozen: Rate = key(0.5, "Share of frames that are as the one before.")
    most_clipped: Rate = key(0.01, "Share of samples at full scale.")
    most_silent: Rate = key(0.9, "Share of the time below -45 dBFS.")


class DemixConfig(Section):
    """How a data set is built. Whatever a section decides is decided anew when it changes, and nothing else."""

    seed: Seed = key(0, "The held-out split follows from it.")
    licence: str = key("", "Licence of films that do not say their own; it goes into the report and the data card.")
    limit_seconds: Seconds = key(
        600.0, "Time that a stage may take for a clip, or for a minute of film, before it fails."
    )
    shots: Shots = Shots()
    technical: Technical = Technical()

    @classmethod
    def load(cls, path: str | os.PathLike[str], overrides: list[str] | None = None) -> Self:
        """Read a YAML file and apply `overrides` ("shots.least_seconds=1"). UserError names the file and the key."""
        raw = config_file.read(Path(path), overrides or [])
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            raise UserError(config_file.explain(error, Path(path), cls)) from None
