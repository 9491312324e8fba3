"""Fit the embedded video and audio codecs to clips and say what they lose on held-out clips.

python scripts/fit_codecs.py --manifest data/puppets/manifest.jsonl --output outputs/codecs
python scripts/fit_codecs.py --kind conv --puppets 1200 --output outputs/codecs

--kind linear is fitted in seconds. --kind conv trains a convolutional video codec from it, for pictures without
blocks: half an hour of one core. --kind wan trains a small AutoencoderKLWan of diffusers. Stopped, the same command
goes on from OUTPUT/unfinished. The audio codec is linear.
"""

import shutil
from pathlib import Path
from typing import Any, Literal

from shared.checkpoint.registry import find_component, load_component
from shared.data.manifest import read_manifest
from shared.utils.cli import Options, exclusive, option, parse
from shared.utils.errors import UserError, run_main
from shared.utils.ranges import Count, Fps, Pair, SampleRate, Seed, Side, Steps

MIXTURE = ("simple", "full", "simple", "shows")
"""Levels of the puppets that a codec is fitted to, in turn."""


class FitOptions(Options):
    manifest: Path | None = option(None, "manifest.jsonl, or a folder of X.mp4 with X.txt")
    puppets: Pair | None = option(
        None, "instead: so many clips of the puppets, half of them simple, a quarter full and a quarter shows, as drawn"
    )
    output: Path | None = option(None, "folder for video_codec/ and audio_codec/", writes="folder")
    measure: Path | None = option(
        None, "instead: a folder with both, measured beside a linear pair; nothing is written"
    )
    kind: Literal["linear", "conv", "wan"] = option("linear", "of the video codec")
    steps: Steps | None = option(None, "kinds conv and wan: optimizer steps; default: 10000")
    clips: Count | None = option(None, "clips to fit on; default: 256 for kind linear, else all")
    held_out: Count = option(32, "clips to measure on: from the manifest's end; of the puppets, so many of each level")
    fps: Fps | None = option(None, "of the manifest's pictures; default: 16")
    size: tuple[Side, Side] = option((64, 64), "of the pictures, in pixels", metavar=("HEIGHT", "WIDTH"))
    stride: Literal["4", "8", "16"] = option("8", "pixels to a latent, each way")
    sample_rate: SampleRate | None = option(None, "of the manifest's sound, in Hz; default: 16000")
    seed: Seed = option(0, "of the choice of clips and of the training")


def main(argv: list[str] | None = None) -> None:
    options = parse(FitOptions, __doc__, argv)
    exclusive(options, "manifest", "puppets", required=True)
    exclusive(options, "puppets", "fps")
    exclusive(options, "puppets", "sample_rate")
    exclusive(options, "output", "measure", required=True)
    if (options.kind == "linear" or options.measure) and options.steps is not None:
        raise UserError("--steps is for --kind conv and wan, with --output; all else is fitted in closed form")
    if options.measure and options.kind != "linear":
        raise UserError("--kind is of a codec to fit; --measure finds in its folder what it measures")
    if options.output and (options.output / "video_codec").exists():
        raise UserError(f"{options.output}/video_codec exists already; give another folder or remove it")
    found = options.measure and [find_component(name, options.measure) for name in ("video_codec", "audio_codec")]
    samples, held_out = _samples(options)
    from shared.codecs.fitting import fit_linear_codecs, measured_table, save_codecs

    count = min(options.clips or (256 if options.kind == "linear" else len(samples)), len(samples))
    linear, audio_codec = fit_linear_codecs(
        samples, min(count, 256), options.sample_rate or 16000, options.seed, int(options.stride)
    )
    pair = linear if options.kind == "linear" else _trained(options, samples, count, linear), audio_codec
    if found:
        pair = load_component(found[0]), load_component(found[1])
    else:
        assert options.output is not None
        save_codecs(options.output, *pair)
        shutil.rmtree(options.output / "unfinished", ignore_errors=True)
    for name, clips in held_out:
        print(f"{'linear ' if found else ''}fitted on {count} clips, measured on {len(clips)} others{name}:")
        print(measured_table(clips, pair, (linear, audio_codec)))
    if options.output:
        print(f"written to {options.output}/video_codec and {options.output}/audio_codec")


def _samples(options: FitOptions) -> tuple[Any, list[tuple[str, Any]]]:
    """Clips to fit on, and others to measure on by what is said of them."""
    if options.puppets is not None:
        from shared.puppets.drawn import DrawnClips
        from shared.puppets.script import HELD_OUT_SEED, LEVELS

        count, size = options.held_out, options.size
        others = [(f" of {level}", DrawnClips(count, HELD_OUT_SEED, size, (level,))) for level in LEVELS]
        return DrawnClips(options.puppets, options.seed, size, MIXTURE), others
    assert options.manifest is not None
    clips = read_manifest(options.manifest)
    held_out = min(options.held_out, len(clips) // 2)
    if held_out < 1:
        raise UserError(f"{options.manifest}: {len(clips)} clips; at least 2 are needed, 1 to fit and 1 held out")
    from torch.utils.data import Subset

    from shared.data.dataset import ClipDataset

    dataset, first = (
        ClipDataset(clips, options.fps or 16.0, options.size, options.sample_rate or 16000),
        len(clips) - held_out,
    )
    return Subset(dataset, range(first)), [("", Subset(dataset, range(first, len(clips))))]


def _trained(options: FitOptions, samples: Any, count: int, linear: Any) -> Any:
    from shared.codecs.fitting import pictures_of
    from shared.codecs.training import CodecFit, trained_codec
    from shared.utils.progress import bar
    from shared.utils.rng import numpy_generator

    chosen = numpy_generator(options.seed, "codec clips").permutation(len(samples))[:count].tolist()
    assert options.output is not None
    kept = options.output / "unfinished" / "video_codec.safetensors"
    kept.parent.mkdir(parents=True, exist_ok=True)
    clips = pictures_of(samples, bar(chosen, desc="clips", unit="clip"))
    return trained_codec(options.kind, clips, linear, CodecFit(options.steps or 10_000, seed=options.seed), kept)


if __name__ == "__main__":
    run_main(main)
