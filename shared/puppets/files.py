"""Clips of the puppets on the disk: FOLDER/video/ID.mp4, stems/ID.{speech1, .., effects, music}.wav, truth/ID.json."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from shared.data.manifest import Clip, claim_folder
from shared.data.media_write import write_audio, write_video
from shared.puppets.clip import render_clip, sample_spec
from shared.utils.files import replacing
from shared.utils.parallel import spread


def make_clips(
    folder: Path, count: int, seed: int, level: str, size: tuple[int, int], conflict: float, workers: int
) -> Iterator[Clip]:
    """Yield the records of `count` clips, each as soon as its files are written; the manifest is left to the caller.
    UserError for settings that there are not, and for a folder that holds anything else."""
    sample_spec(seed, 0, level, size, conflict)  # checks them
    settings = {"seed": seed, "level": level, "size": list(size), "conflict": conflict}
    claim_folder(folder, "puppets.json", settings)
    return spread(partial(make_clip, folder, seed, level, size, conflict), range(count), workers)


def make_clip(folder: Path, seed: int, level: str, size: tuple[int, int], conflict: float, index: int) -> Clip:
    """Render clip `index`, write its files, and return its manifest record."""
    spec = sample_spec(seed, index, level, size, conflict)
    clip = render_clip(spec)
    record = Clip(
        id=spec.id, caption=clip.caption, audio_caption=clip.audio_caption, subsets=clip.truth["subsets"],
        video=folder / "video" / f"{spec.id}.mp4", truth=folder / "truth" / f"{spec.id}.json",
        tracks={name: folder / "stems" / f"{spec.id}.{name}.wav" for name in clip.stems},
        speakers=[character.kind for character in spec.characters],
    )  # fmt: skip
    files = record.files()
    write_video(files["video"], clip.frames, spec.fps, clip.mix[None], spec.rate)
    for name, stem in clip.stems.items():
        write_audio(files[name], stem[None], spec.rate)
    files["truth"].parent.mkdir(exist_ok=True)
    with replacing(files["truth"]) as part:
        part.write_text(json.dumps(clip.truth), encoding="utf-8")
    return record
