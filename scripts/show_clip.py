"""Show a clip as one picture: a strip of frames, its waveform and its spectrogram on one time axis.

    python scripts/show_clip.py clip.mp4 --output strip.png
    python scripts/show_clip.py clip.mp4 --output moving.gif     # the frames move beside the sound

The left edge of each frame stands at its own time. A file without pictures or without sound shows what it
has; a gif needs both.
"""

from pathlib import Path

from shared.utils.cli import Options, option, parse
from shared.utils.errors import UserError, run_main
from shared.utils.ranges import Strip


class ShowOptions(Options):
    clip: Path = option(help="mp4, mov, mkv, webm or wav", positional=True)
    output: Path = option(help="the picture, a png, or a gif that moves", writes="file")
    frames: Strip = option(12, "frames in the strip of a png")


def main(argv: list[str] | None = None) -> None:
    options = parse(ShowOptions, __doc__, argv)
    if options.output.suffix not in (".png", ".gif"):
        raise UserError(f"--output {options.output}: the picture's name must end in .png, or in .gif to move")
    if not options.clip.is_file():
        raise UserError(f"{options.clip}: no such file")
    from shared.evaluation.figures import ClipFigure, save_moving

    if options.output.suffix == ".gif":
        save_moving(options.clip, options.output)
    else:
        ClipFigure.of_file(options.clip, options.frames).save(options.output)
    print(options.output)


if __name__ == "__main__":
    run_main(main)
