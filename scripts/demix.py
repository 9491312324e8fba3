"""Take the sound of every clip apart into speech, effects and music.

python scripts/demix.py --manifest data/clips --output data/clips_demixed --demixer dsp

DIR/tracks/ID/{speech, effects, music}.wav at the sound's own rate and channels, and DIR/manifest.jsonl (last): the
clips with these as their tracks. A track below -45 dBFS is written as exact zeros. Run again to go on where it
stopped. Clips that fail are listed at the end, the manifest holds the others, and the exit code is 1. With --measure
the tracks are compared with those that the manifest already has, and so are those of --second. With --speakers K, up
to K people who speak in a clip have a track each, speech1.wav, speech2.wav ... in the order of their first words, and
turns.json says who speaks when.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import model_validator

from shared.data.manifest import MANIFEST_NAME, read_manifest, write_manifest
from shared.utils.cli import Options, option, parse
from shared.utils.errors import exit_for_failed_clips, run_main
from shared.utils.locks import FILLS, LOCK_NAME, locked
from shared.utils.progress import bar as progress_bar
from shared.utils.ranges import Count, Speakers, Workers

DEMIXERS = ("dsp", "spleeter", "demucs-cdx23")
SECONDS = ("dsp", "spleeter")


class DemixOptions(Options):
    manifest: Path = option(help="manifest.jsonl, or a folder of X.mp4 with X.txt")
    output: Path = option(help="folder to fill; new, empty, or made by this script", writes="folder")
    audio_track: Count | None = option(
        None, "which track of a clip's sound, from 1, where the manifest has no audio_track; default: the file's own"
    )
    demixer: str = option("dsp", "dsp, for the toy world; spleeter (make perception) or demucs-cdx23, for recordings")
    checkpoint: list[Path] = option([], "MVSEP-CDX23 .th files; several are an ensemble")
    device: str = option("cpu", "where spleeter and demucs-cdx23 run")
    speakers: Speakers | None = option(None, "give each of up to so many people in a clip a speech track of their own")
    embedder: str | None = option(
        None, "how their voices are told apart: resemblyzer, pitch (one high, one low), a folder of x-vectors, or one "
        "of a pipeline of pyannote.audio; default: resemblyzer",
    )  # fmt: skip
    measure: bool = option(False, "compare with the tracks that the manifest has")
    second: str | None = option(None, "with --measure: dsp, or spleeter (make perception), is measured beside it")
    workers: Workers | None = option(None, "processes; default: all cores for dsp, else 1")

    @model_validator(mode="after")
    def _fitting(self) -> DemixOptions:
        if self.demixer not in DEMIXERS:
            raise ValueError(f"--demixer {self.demixer}: give one of {', '.join(DEMIXERS)}")
        if self.demixer != "demucs-cdx23" and self.checkpoint:
            raise ValueError(f"--demixer {self.demixer}: takes no checkpoint; --demixer demucs-cdx23 does")
        if self.demixer == "dsp" and self.device != "cpu":
            raise ValueError(f"--demixer dsp: runs on the CPU; leave --device {self.device} out")
        if self.second is not None and (self.second not in SECONDS or self.second == self.demixer):
            raise ValueError(f"--second {self.second}: beside {self.demixer}, give another of {', '.join(SECONDS)}")
        if self.second is not None and not self.measure:
            raise ValueError(
                f"--second {self.second}: is measured and makes no tracks; give --measure, or leave it out"
            )
        if self.embedder is not None and self.speakers is None:
            raise ValueError("--embedder tells the voices of --speakers apart; give both, or leave it out")
        if self.processes > 1 and self.device != "cpu":
            raise ValueError(f"--workers {self.workers}: on {self.device} one process is needed; give 1")
        return self

    @property
    def processes(self) -> int:
        return self.workers or ((os.cpu_count() or 1) if self.demixer == "dsp" else 1)


def main(argv: list[str] | None = None) -> None:
    """Separate all clips; exit code 1 if one failed."""
    options = parse(DemixOptions, __doc__, argv)
    clips = read_manifest(options.manifest)
    if options.audio_track is not None:
        clips = [clip.model_copy(update={"audio_track": clip.audio_track or options.audio_track}) for clip in clips]
    from mtv.demix import EMBEDDER, DemixerChoice, demix_clips, scores_table

    manifest = options.output / MANIFEST_NAME
    settings = (tuple(options.checkpoint), options.device, options.speakers, options.embedder or EMBEDDER)
    choice = DemixerChoice(options.demixer, *settings, options.second)
    with locked(options.output / LOCK_NAME, *FILLS):
        demixed = demix_clips(options.manifest, clips, options.output, choice, options.processes, options.measure)
        outcomes = list(progress_bar(demixed, total=len(clips), unit="clip", desc=str(options.output)))
        done = [outcome for outcome in outcomes if not outcome.error]
        if done:
            write_manifest(manifest, [outcome.clip for outcome in done])
            print(f"{len(done)} clips, {manifest}")
    if options.measure:
        print(scores_table(done))
    if options.speakers is not None:
        from mtv.demix_speakers import speakers_table, tell_speakers

        if options.measure:
            print("\n" + speakers_table([outcome.speakers for outcome in done if outcome.speakers is not None]))
        print(tell_speakers({outcome.clip.id: outcome.heard for outcome in done if outcome.heard is not None}))
    failed = [(outcome.clip.id, outcome.error) for outcome in outcomes if outcome.error]
    exit_for_failed_clips(failed, len(clips), "manifest is")


if __name__ == "__main__":
    run_main(main)
