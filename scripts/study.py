"""Ask people: a page that shows clips of two models side by side, and what its votes say (docs/score.md).

    python scripts/study.py my_study.yaml --output outputs/study
    python scripts/study.py my_study.yaml --output outputs/study --votes my_votes/*.json

The first makes OUTPUT/index.html for the raters, each of whom enters a number of his own, and OUTPUT/key.json, which
says what was shown and is not for them. The page needs no network and keeps votes in the browser until they are saved.
The second reads the saved files and writes OUTPUT/study.json: preference shares, Bradley-Terry strengths, agreement.
"""

from __future__ import annotations

from pathlib import Path

from shared.evaluation.study import KEY, plan, read_config, read_study
from shared.utils.cli import Options, option, parse
from shared.utils.errors import UserError, run_main
from shared.utils.files import read_json, writable_folder, write_json


class StudyOptions(Options):
    study: Path = option(help="a YAML file: title, sets, criteria (docs/score.md)", positional=True, metavar="STUDY")
    output: Path = option(help="for the page, or with --votes the analysis", metavar="DIR", writes="folder")
    votes: list[Path] = option([], "files that raters saved", metavar="FILE")


def main(argv: list[str] | None = None) -> None:
    options = parse(StudyOptions, __doc__, argv)
    if options.votes:
        asked = read_config(options.study).criteria
        from shared.evaluation.study_analysis import analyse, read_votes, summary

        file = options.output / KEY
        key = read_json(file, advice="give the --output of the study's page")
        if key.get("criteria") != asked:
            raise UserError(f"{file}: is of another study than {options.study}; give the --output of its page")
        result = analyse(*read_votes(options.votes, key), key)
        write_json(options.output / "study.json", result)
        print("\n".join(summary(result)))
        return
    config, sets = read_study(options.study)
    raters = plan(config, sets)
    writable_folder("--output", options.output)
    from shared.evaluation.study_page import write_study

    write_study(options.output, config, sets, raters)
    print(options.output / "index.html")


if __name__ == "__main__":
    run_main(main)
