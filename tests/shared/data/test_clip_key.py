"""The hash of what decides a record."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shared.data.clip_key import clip_key
from shared.data.manifest import Clip
from shared.utils.errors import UserError


def test_a_key_is_what_decides_a_record(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"film")
    clip = Clip(id="a", video=path, caption="")
    first = clip_key(clip, [path, None], ["16 fps"])
    assert clip_key(clip.model_copy(update={"caption": "another"}), [path, None], ["16 fps"]) == first
    later = clip.model_copy(update={"start": 0.5})
    other = {clip_key(later, [path], ["16 fps"]), clip_key(clip, [path], ["24 fps"])}
    os.utime(path, (1, 1))
    other |= {clip_key(clip, [path], ["16 fps"])}
    path.write_bytes(b"longer")
    os.utime(path, (1, 1))
    other |= {clip_key(clip, [path], ["16 fps"])}
    other |= {clip_key(clip.model_copy(update={"audio_track": track}), [path], ["16 fps"]) for track in (1, 2)}
    assert len(other | {first}) == 7
    path.unlink()
    with pytest.raises(UserError, match=r"clip 'a': .*a\.mp4: No such file"):
        clip_key(clip, [path], [])
