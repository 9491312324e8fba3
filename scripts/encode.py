"""Encode clips into latent shards that training reads (docs/data.md).

    python scripts/encode.py --manifest data/clips --checkpoint outputs/mine/checkpoint --output data/latents
    torchrun --nproc-per-node 8 scripts/encode.py --manifest data/clips --video-codec models/wan \\
        --audio-codec models/ltx --text-encoder models/wan --fps 16 --size 352 640 --output data/latents

DIR/00000.tar ... with video and audio latents, embeddings of both captions and, with --tracks, features of the tracks;
DIR/report.jsonl, a line per clip; DIR/index.json, last. Run again to go on where it stopped: finished shards are kept.
Clips that fail are listed at the end, the shards hold the others, and the exit code is 1.
"""

from mtv.encoding import EncodeOptions, component_sources, encode_job, record_settings
from shared.data.manifest import read_manifest
from shared.utils.cli import parse
from shared.utils.errors import exit_for_failed_clips, run_main


def main(argv: list[str] | None = None) -> None:
    """Parse, check, encode, report; exit code 1 if a clip failed."""
    options = parse(EncodeOptions, __doc__, argv)
    record_settings(options), component_sources(options)  # refused before the clips are read
    clips = read_manifest(options.manifest)
    from shared.data.encode import encode

    failed = encode(encode_job(options, clips))
    if failed is None:
        print(f"{options.output}: this process is done; the last one writes index.json")
        return
    if len(failed) < len(clips):
        print(f"{len(clips) - len(failed)} clips, {options.output / 'index.json'}")
    exit_for_failed_clips([(failure["id"], failure["reason"]) for failure in failed], len(clips), "shards are")


if __name__ == "__main__":
    run_main(main)
