"""What both sampling scripts ask about a sample, and where it may be written."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import model_validator

from shared.checkpoint.loading import ModelOptions
from shared.utils.cli import option
from shared.utils.errors import UserError

SHORT = 0.1  # s by which a given file may be shorter than --duration: codecs round


class SamplingOptions(ModelOptions):
    """Options of a script that writes samples of a checkpoint."""

    prompt: str | None = option(None, "what to see", metavar="TEXT")
    timed_prompts: Path | None = option(None, "lines of SECONDS, TEXT", metavar="FILE")
    negative_prompt: str | None = option(None, "what guidance leads away from; default: the empty text", metavar="TEXT")
    image: Path | None = option(None, "png, jpeg or webp: the first frame")
    seed: int = option(0, "the same seed makes the same sample")
    steps: int | None = option(None, "solver steps; default: the pipeline's", ge=1)

    @model_validator(mode="after")
    def _has_text(self) -> SamplingOptions:
        if self.prompt is not None and not self.prompt.strip():
            raise ValueError("--prompt is empty; a text is needed")
        return self

    def given_arguments(self) -> dict[str, Any]:
        """Arguments of a pipeline; options without a value leave it its own default."""
        arguments = {"negative_prompt": self.negative_prompt, "num_inference_steps": self.steps}
        return {name: value for name, value in arguments.items() if value is not None}


def existing_folder(path: Path) -> Path:
    """Find the nearest folder above `path` that is there."""
    return next(parent for parent in path.absolute().parents if parent.exists())


def check_output(output: Path, files: Iterable[Path], inputs: Iterable[Path | None]) -> None:
    """Raise UserError unless `files`, all beside `output`, can be written and are none of the `inputs`."""
    folder = existing_folder(output)
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"--output {output}: {folder} is no folder that can be written to")
    given = [path.resolve() for path in inputs if path is not None]
    for file in files:
        if file.is_dir() or file.resolve() in given:
            raise UserError(f"--output {file}: is a folder or a given file; give another name")
