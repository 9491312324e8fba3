"""Make clips of the puppets, the embedded world: mp4 with sound, wav stems, ground truth and a manifest.

python scripts/make_puppets.py --clips 64 --output data/puppets --seed 1 --level simple

DIR/video/ID.mp4 (ID.mkv with --lossless), DIR/stems/ID.{speech1, speech2, effects, music}.wav, DIR/truth/ID.json,
DIR/manifest.jsonl (last). The same arguments make the same clips; another seed makes clips that share no random number
with them (a held-out set).
"""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from shared.data.manifest import MANIFEST_NAME, write_manifest
from shared.puppets.choices import Choices, Mixture, mixture
from shared.puppets.clip import make_clips
from shared.puppets.script import LEVELS
from shared.puppets.shows import RATES, SECONDS
from shared.utils.cli import Options, Pixels, option, parse
from shared.utils.errors import UserError, run_main
from shared.utils.locks import FILLS, LOCK_NAME, locked
from shared.utils.progress import bar as progress_bar
from shared.utils.ranges import Count, Rate, Seed, Workers


class PuppetOptions(Options):
    clips: Count = option(help="how many clips")
    output: Path = option(help="folder to fill; new, empty, or made by the same arguments", writes="folder")
    seed: Seed = option(0, "another seed makes other clips")
    level: str = option("simple", f"one of {', '.join(LEVELS)}")
    size: Pixels = option((64, 64), "pixels: 64 (default), or HEIGHTxWIDTH as 64x96")
    seconds: Annotated[Mixture, BeforeValidator(mixture(*SECONDS))] | None = option(
        None, "length, 1 to 30, or lengths with their shares as 1:.2,2:.8; default: as the level has them", metavar="N"
    )
    fps: Annotated[Mixture, BeforeValidator(mixture(*RATES))] | None = option(
        None, "frame rate, 12 to 30, or rates with their shares; default: as the level has them", metavar="N"
    )
    shots: Annotated[int, Field(ge=1, le=3)] | None = option(
        None, "level shows: so many shots at most, 1 to 3; default: 3"
    )
    held_out: bool = option(
        False, "level shows: only pairs and paraphrases that other clips never have; never train on them"
    )
    sheet: Path | None = option(None, "a contact sheet too: one picture of each clip (png, jpg or webp)", writes="file")
    told: Annotated[float, Field(gt=0, le=1)] | None = option(
        None,
        "share of the clips whose captions tell all that they can; the others, by default all: as the level has it",
    )
    lossless: bool = option(
        False, "mkv files (FFV1 and FLAC) that return what was drawn to the bit, in the place of mp4"
    )
    style: Literal["stage", "cutout"] = option(
        "stage", "how it looks and sounds; what happens, and its captions, are the same"
    )
    name_style: bool = option(False, "captions begin with the style's name, so that a model can know several")
    conflict: Rate = option(0.0, "fraction whose text contradicts the sound (subset 'conflict'; never train on them)")
    workers: Workers = option(os.cpu_count() or 1, "processes; default: all cores")


def main(argv: list[str] | None = None) -> None:
    """Render on all cores; the manifest appears only when every clip is there."""
    given = parse(PuppetOptions, __doc__, argv)
    if given.sheet and given.sheet.suffix not in (".png", ".jpg", ".webp"):
        raise UserError(f"--sheet {given.sheet}: the picture's name must end in .png, .jpg or .webp")
    settings = given.seed, given.level, given.size, given.conflict
    choices = Choices(
        given.seconds, given.fps, given.shots, given.held_out, given.told, given.lossless,
        None if given.style == "stage" else given.style, given.name_style,
    )  # fmt: skip
    with locked(given.output / LOCK_NAME, *FILLS):
        rendered = make_clips(given.output, given.clips, *settings, given.workers, choices)
        clips = list(progress_bar(rendered, total=given.clips, unit="clip", desc=str(given.output)))
        write_manifest(given.output / MANIFEST_NAME, clips)
    if given.sheet:
        from shared.puppets.sheet import contact_sheet

        contact_sheet([clip.video for clip in clips if clip.video]).save(given.sheet, quality=82)
    print(f"{len(clips)} clips, {given.output / MANIFEST_NAME}")


if __name__ == "__main__":
    run_main(main)
