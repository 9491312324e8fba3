"""The page of a study: one file, to be opened without a network, that shows two clips side by side and takes votes."""

from __future__ import annotations

import hashlib
import mimetypes
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shared.data.manifest import Clip
from shared.data.media import probe, read_video
from shared.data.media_write import write_video
from shared.evaluation.html import data_uri, render
from shared.evaluation.score_clips import ClipSet
from shared.evaluation.score_run import digest
from shared.evaluation.study import KEY, StudyConfig, Trial, as_key, trial_id
from shared.utils.errors import UserError
from shared.utils.files import read_json, write_atomically, write_json

LARGEST = 500_000_000  # bytes of all clips in a page
BLOCKS = 8  # along the shorter side of a spoilt clip


def write_study(
    folder: Path, config: StudyConfig, sets: Sequence[ClipSet], raters: Sequence[Sequence[Trial]]
) -> dict[str, Any]:
    """Write FOLDER/index.html for the raters and FOLDER/key.json, which says what was shown, and return the key."""
    clips = {(one.name, clip.id): clip for one in sets for clip in one.clips}
    media: dict[tuple[str, str, bool], str] = {}
    shown = [[_shown(trial, trial_id(r, n), config, clips, media) for n, trial in enumerate(trials)]
             for r, trials in enumerate(raters)]  # fmt: skip
    size = sum(len(address) for address in media.values())
    if size > LARGEST:
        raise UserError(f"the clips of the study are {size / 1e6:.0f} MB; at most {LARGEST / 1e6:.0f} fit in a page")
    names = {place: _code(place) for place in media}
    key: dict[str, Any] = {"title": config.title, "criteria": config.criteria, "trials": as_key(raters)}
    contents = {name: hashlib.sha256(media[place].encode()).hexdigest() for place, name in names.items()}
    key = {"study": digest([key, contents]), "sets": [one.name for one in sets], **key}
    if (folder / KEY).exists() and read_json(folder / KEY).get("study") != key["study"]:
        raise UserError(f"{folder}: holds another study; give a new folder, or delete it")
    page = {"study": key["study"], "criteria": list(config.criteria.items()), "raters": shown}
    page["media"] = {names[place]: media[place] for place in sorted(media, key=lambda place: names[place])}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / KEY, key)
    write_atomically(folder / "index.html", render("study.html.j2", title=config.title, page=page))
    return key


def _shown(
    trial: Trial, name: str, config: StudyConfig, clips: dict[tuple[str, str], Clip], media: dict[Any, str]
) -> dict[str, str]:
    """Tell the page of a trial: codes of its clips, which it adds to `media`, and the text."""
    sides = {}
    for side, place in (("left", (trial.left, trial.left_clip)), ("right", (trial.right, trial.right_clip))):
        is_spoilt = trial.catch not in ("", side)
        if (*place, is_spoilt) not in media:
            media[*place, is_spoilt] = _address(clips[place], is_spoilt)
        sides[side] = _code((*place, is_spoilt))
    text = clips[trial.left, trial.left_clip].caption if config.show_text else ""
    return {"id": name, "text": text, **sides}


def _code(place: tuple[str, str, bool]) -> str:
    return hashlib.sha256("\x1f".join(map(str, place)).encode()).hexdigest()[:12]


def _address(clip: Clip, is_spoilt: bool) -> str:
    assert clip.video is not None, "the study is checked"
    if not is_spoilt:
        return data_uri(mimetypes.guess_type(clip.video.name)[0] or "video/mp4", clip.video.read_bytes())
    with tempfile.TemporaryDirectory() as folder:
        spoil(clip, Path(folder) / "clip.mp4")
        return data_uri("video/mp4", (Path(folder) / "clip.mp4").read_bytes())


def spoil(clip: Clip, path: Path) -> None:
    """Write a clip as a few large blocks of colour, without sound: whoever looks prefers the clip itself."""
    assert clip.video is not None, "the study is checked"
    fps = probe(clip.video).fps or 25.0
    frames = read_video(clip.video, fps)
    block = max(1, min(frames.shape[1:3]) // BLOCKS)
    coarse = frames[:, block // 2 :: block, block // 2 :: block]
    large = coarse.repeat(block, 1).repeat(block, 2)
    write_video(path, np.ascontiguousarray(large[:, : large.shape[1] // 2 * 2, : large.shape[2] // 2 * 2]), fps)
