"""Fit the linear video and audio codecs to the clips of a manifest and say what they lose on held-out clips.

python scripts/fit_codecs.py --manifest data/puppets/manifest.jsonl --output outputs/codecs
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from torch.utils.data import Subset

from shared.codecs.fitting import fit_linear_codecs, measure_codecs, save_codecs
from shared.data.dataset import ClipDataset
from shared.data.manifest import read_manifest
from shared.utils.cli_old import Parser
from shared.utils.errors import UserError, run_main


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    dataset = ClipDataset(read_manifest(args.manifest), args.fps, tuple(args.size), args.sample_rate)
    held_out = min(args.held_out, len(dataset) // 2)
    if held_out < 1 or args.clips < 1:
        raise UserError(f"{args.manifest}: {len(dataset)} clips; at least 2 are needed, 1 to fit and 1 held out")
    fitted_on = range(min(args.clips, len(dataset) - held_out))
    video_codec, audio_codec = fit_linear_codecs(Subset(dataset, fitted_on), sample_rate=args.sample_rate)
    numbers = range(len(dataset) - held_out, len(dataset))
    save_codecs(args.output, video_codec, audio_codec)
    print(f"fitted on {len(fitted_on)} clips, measured on {held_out} others:")
    for name, value in measure_codecs(dataset, numbers, video_codec, audio_codec).items():
        print(f"  {name.replace('_', ' '):22s}{value:8.3f}")
    print(f"written to {args.output}/video_codec and {args.output}/audio_codec")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--manifest", type=Path, required=True, help="manifest.jsonl, or a folder of X.mp4 with X.txt")
    parser.add_argument("--output", type=Path, required=True, help="folder for video_codec/ and audio_codec/")
    parser.add_argument("--clips", type=int, default=256, help="clips to fit on (default 256)")
    parser.add_argument("--held-out", type=int, default=32, help="clips to measure on, from the end (default 32)")
    parser.add_argument("--fps", type=float, default=16.0)
    parser.add_argument("--size", type=int, nargs=2, default=[64, 64], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--sample-rate", type=int, default=16000)
    return parser.parse_args(argv)


if __name__ == "__main__":
    run_main(main)
