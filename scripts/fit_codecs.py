"""Fit the linear video and audio codecs to the clips of a manifest and say what they lose on held-out clips.

python scripts/fit_codecs.py --manifest data/puppets/manifest.jsonl --output outputs/codecs
"""

from pathlib import Path

from shared.data.manifest import read_manifest
from shared.utils.cli import Options, option, parse
from shared.utils.errors import UserError, run_main
from shared.utils.ranges import Count, Fps, SampleRate, Side


class FitOptions(Options):
    manifest: Path = option(help="manifest.jsonl, or a folder of X.mp4 with X.txt")
    output: Path = option(help="folder for video_codec/ and audio_codec/", writes="folder")
    clips: Count = option(256, "clips to fit on")
    held_out: Count = option(32, "clips to measure on, from the end")
    fps: Fps = option(16.0, "of the pictures")
    size: tuple[Side, Side] = option((64, 64), "of the pictures, in pixels", metavar=("HEIGHT", "WIDTH"))
    sample_rate: SampleRate = option(16000, "of the sound, in Hz")


def main(argv: list[str] | None = None) -> None:
    options = parse(FitOptions, __doc__, argv)
    clips = read_manifest(options.manifest)
    held_out = min(options.held_out, len(clips) // 2)
    if held_out < 1 or options.clips < 1:
        raise UserError(f"{options.manifest}: {len(clips)} clips; at least 2 are needed, 1 to fit and 1 held out")
    from torch.utils.data import Subset

    from shared.codecs.fitting import fit_linear_codecs, measure_codecs, save_codecs
    from shared.data.dataset import ClipDataset

    dataset = ClipDataset(clips, options.fps, options.size, options.sample_rate)
    fitted_on = range(min(options.clips, len(dataset) - held_out))
    video_codec, audio_codec = fit_linear_codecs(Subset(dataset, fitted_on), sample_rate=options.sample_rate)
    numbers = range(len(dataset) - held_out, len(dataset))
    save_codecs(options.output, video_codec, audio_codec)
    print(f"fitted on {len(fitted_on)} clips, measured on {held_out} others:")
    for name, value in measure_codecs(dataset, numbers, video_codec, audio_codec).items():
        print(f"  {name.replace('_', ' '):22s}{value:8.3f}")
    print(f"written to {options.output}/video_codec and {options.output}/audio_codec")


if __name__ == "__main__":
    run_main(main)
