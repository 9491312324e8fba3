"""Look at every clip of a manifest before training: the doctor of a data set (docs/data.md).

    python scripts/check_data.py --manifest data/clips
    python scripts/check_data.py --manifest data/clips --checkpoint outputs/mine/checkpoint --report report.html

Per clip: duration, frame rate (true, varying), size, offset and level of the sound, clipping, share of speech,
captions, tracks, with --checkpoint the latents; and a verdict: ok, warn or refuse (training would refuse it), and why.
"""

import os
import sys
from pathlib import Path

from pydantic import field_validator

from shared.checkpoint.folder import check_checkpoint
from shared.data.manifest import manifest_entries
from shared.utils.cli import Options, option, parse
from shared.utils.errors import run_main
from shared.utils.progress import bar as progress_bar
from shared.utils.ranges import Workers


class CheckOptions(Options):
    manifest: Path = option(help="manifest.jsonl, or a folder of X.mp4 with X.txt")
    report: Path | None = option(None, "FILE.html to look at, or FILE.jsonl with a line per clip", writes="file")
    checkpoint: Path | None = option(None, "encode every clip with its codecs, and look at the latents")
    sigma: float = option(3.0, "their deviation may be 1/SIGMA to SIGMA", metavar="SIGMA", gt=1, le=1000)
    workers: Workers = option(os.cpu_count() or 1, "processes; default: all cores")
    strict: bool = option(False, "exit code 1 if training would refuse the manifest")

    @field_validator("report")
    @classmethod
    def _writable(cls, report: Path | None) -> Path | None:
        if report and report.suffix not in (".html", ".jsonl"):
            raise ValueError(f"{report}: give FILE.html or FILE.jsonl")
        if report and not report.absolute().parent.is_dir():
            raise ValueError(f"{report}: the folder does not exist; make it first")
        return report


def main(argv: list[str] | None = None) -> None:
    """Examine all clips and report; exit code 1 with --strict if one is refused."""
    options = parse(CheckOptions, __doc__, argv)
    if options.checkpoint is not None:
        check_checkpoint(options.checkpoint)
    entries = manifest_entries(options.manifest)
    from shared.data.doctor import examine_all, refusal
    from shared.evaluation.doctor_report import summary, write_report

    examined = examine_all(entries, options.workers, options.checkpoint, options.sigma)
    findings = list(progress_bar(examined, total=len(entries), unit="clip", desc=str(options.manifest)))
    if options.report is not None:
        write_report(options.report, findings)
    for finding in findings:
        if finding.reasons:
            print(f"{finding.verdict}: clip {finding.id!r}: {'; '.join(finding.reasons)}")
    print("\n".join(summary(findings)))
    if why := refusal(entries, findings):
        print(f"training would refuse {options.manifest}: {why}")
    if options.strict and why:
        sys.exit(1)


if __name__ == "__main__":
    run_main(main)
