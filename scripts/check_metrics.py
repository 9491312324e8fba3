"""Say what each metric of score.py sees: true clips of the puppets, damaged in known ways, and measured.

    python scripts/check_metrics.py --clips 12
    python scripts/check_metrics.py --clips 12 --metrics temp_c,text_c --weights clip=models/clip
    python scripts/check_metrics.py --clips 12 --document docs/score.md      # writes the table into the document

Damages: frames dropped, blurred, frozen; another clip's text or sound; silence; the sound shifted. Distances of sets
need more clips than this and are left out.
"""

from pathlib import Path

from pydantic import model_validator

from shared.evaluation.metrics.registry import METRICS, check_weights, load, read_settings
from shared.evaluation.score_options import Names
from shared.utils.cli import Options, device, option, parse
from shared.utils.errors import UserError, run_main
from shared.utils.files import replaced, write_atomically
from shared.utils.ranges import Pair
from shared.utils.text_files import read_text

NAME = "damages"


class CheckOptions(Options):
    clips: Pair = option(12, "clips; of each the next one is the other")
    metrics: Names = option(("lip_sync_puppets", "onset_sync"), f"some of {','.join(METRICS)}", metavar="NAMES")
    weights: list[str] = option(
        [], "what a network is loaded from, as clip=FOLDER; any number", metavar="NAME=PATH", repeat=True
    )
    device: str = option("auto", "auto (default: a GPU if there is one), cpu, cuda, cuda:1 ...")
    document: Path | None = option(None, "Markdown with marks for the table", metavar="FILE")

    @model_validator(mode="after")
    def _of_clips_alone(self) -> "CheckOptions":
        if sets := [name for name in self.metrics if METRICS[name].over_sets]:
            raise ValueError(f"--metrics {sets[0]}: compares sets; metrics of single clips are needed")
        return self


def main(argv: list[str] | None = None) -> None:
    options = parse(CheckOptions, __doc__, argv)
    weights = {name: Path(path) for name, _, path in (word.partition("=") for word in options.weights)}
    check_weights(options.metrics, weights)
    text = ""
    if options.document is not None:
        text = read_text(options.document)
        replaced(text, NAME, "", options.document)  # has it the marks?
    from shared.evaluation.damages import check_needs, damage_table, drawn_clips, measured
    from shared.evaluation.metrics.base import Tools

    metrics = load(
        options.metrics, Tools(weights, str(device(options.device)), settings=read_settings([], options.metrics))
    )
    if wrong := check_needs(metrics):
        raise UserError(f"--metrics {wrong[0]}: needs more than pictures, a mix and a text, which these clips have")
    clips = list(drawn_clips(options.clips))
    table = damage_table(measured(clips, metrics))
    print(table)
    if options.document is not None:
        write_atomically(options.document, replaced(text, NAME, table, options.document))


if __name__ == "__main__":
    run_main(main)
