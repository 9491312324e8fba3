"""Reading the truth of a puppet clip (`shared.puppets.clip.truth`) back from the file beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shared.utils.errors import UserError
from shared.utils.files import read_json

NEEDED = ("characters", "objects", "events", "pan", "mood", "music")
"""Of what make_puppets.py writes, all that measuring uses."""


def read_truth(file: Path) -> dict[str, Any]:
    """Read what happens in a clip. UserError for a file that cannot be read or that lacks any of `NEEDED`."""
    truth = read_json(file)
    if missing := [name for name in NEEDED if name not in truth]:
        raise UserError(f"{file}: has no {missing[0]}; the truth of a puppet clip is needed")
    return truth
