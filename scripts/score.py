"""Score clips that any model made: folders or manifests of mp4 files, several models at once (docs/score.md).

    python scripts/score.py my_clips --metrics temp_c,text_c --weights clip=models/clip --output outputs/score
    python scripts/score.py ours=a theirs=b --pairs-by name --metrics temp_c --weights clip=models/clip \\
        --output outputs/ab

Writes OUTPUT/metrics.json: of each number its interval, the clips that count, those that were refused and why, what was
done to the clips before, and its hash, that of the weights, and versions; metrics.csv and metrics.tex are tables of it.

Stopped, the same command goes on from OUTPUT/clips, clip by clip, to the same numbers; with more metrics it measures
those alone that are not there yet.
"""

from __future__ import annotations

from shared.evaluation.metrics.registry import check_reference, check_weights, read_settings
from shared.evaluation.score_against import read_against
from shared.evaluation.score_clips import REFERENCE, ClipSet, read_clips, read_sets
from shared.evaluation.score_options import ScoreOptions
from shared.evaluation.suites import coverage, read_suite, with_texts
from shared.utils.cli import device, parse
from shared.utils.errors import UserError, run_main
from shared.utils.files import writable_folder
from shared.utils.locks import LOCK_NAME, locked


def main(argv: list[str] | None = None) -> None:
    options = parse(ScoreOptions, __doc__, argv)
    check_weights(options.metrics, options.weight_paths())
    read_settings(options.set, options.metrics)
    check_reference(options.metrics, options.reference is not None)
    sets = read_sets(options.clips)
    told = None
    if options.suite:
        texts = read_suite(options.suite)
        sets = [with_texts(one, texts, options.suite) for one in sets]
        told = coverage(options.suite, texts, sets)
    reference = None
    if options.reference is not None:
        reference = ClipSet(REFERENCE, options.reference, read_clips(options.reference))
    if len(sets) < 2 and options.pairs_by is not None:
        raise UserError(f"--pairs-by {options.pairs_by}: compares two sets of clips or more; give a second folder")
    against = options.against and read_against(options.against, options.metrics)
    writable_folder("--output", options.output)
    with locked(options.output / LOCK_NAME, "scores into it", "let it end, or give another --output"):
        from shared.evaluation.scorer import score

        score(options, sets, reference, against or None, str(device(options.device)), told)


if __name__ == "__main__":
    run_main(main)
