"""Run an ablation: variants x seeds, each a normal training and a normal evaluation, and one report over them.

    python scripts/ablate.py --plan configs/ablation/ccl.yaml --output outputs/ablation_ccl

Running the same command again resumes; what is done is not done again. OUTPUT then holds clips/, start/ (the run that
all variants start from), runs/VARIANT-SEED/, results/ (a JSON file per run, to be kept), report.html and table.md.
A run that fails is reported with the last lines of its log and stops no other; the exit code is then 1.

    python scripts/ablate.py --plan configs/ablation/mtv.yaml --output outputs/ablation_mtv \\
        --start outputs/ablation_ccl/runs/ccl-0/train/checkpoint

begins from a checkpoint that is there in place of the run that the plan would start with.

    python scripts/ablate.py --report-only --results DIR --output OUTPUT --document docs/results.md

writes the report, and the tables between the marks of a document, from such results/ folders alone; --check only
compares. With several folders of one plan, its runs may have been made on several machines.
"""

from __future__ import annotations

import shlex
import sys
from itertools import chain
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, model_validator

from shared.ablation.jobs import Jobs
from shared.ablation.plan import load_plan
from shared.utils.cli import Options, option, parse
from shared.utils.errors import UserError, run_main
from shared.utils.ranges import Seed, Workers


class AblateOptions(Options):
    plan: Path | None = option(None, "a YAML file of configs/ablation/", metavar="FILE")
    output: Path | None = option(None, "for the runs and the report", metavar="DIR", writes="folder")
    start: Path | None = option(None, "begin from this checkpoint; train no start", metavar="DIR")
    only: str | None = option(None, "variants or groups of the plan, between commas; default: all", metavar="NAMES")
    seeds: Annotated[list[Seed] | None, BeforeValidator(lambda text: text.split(","))] = option(
        None, "some of the plan's seeds, between commas; default: all", metavar="LIST"
    )
    parallel: Workers | None = option(None, "runs side by side; default: the plan's")
    dry_run: bool = option(False, "print the commands, and whether they are done; run nothing")
    report_only: bool = option(False, "run nothing; make the report from --results")
    results: list[Path] = option([], "results/ folders of ablations", metavar="DIR")
    document: Path | None = option(None, "a Markdown file with marks for each plan's tables", metavar="FILE")
    check: bool = option(False, "change nothing; exit code 2 if the document's tables are out of date")

    @model_validator(mode="after")
    def _go_together(self) -> AblateOptions:
        runs, reports = ("plan", "only", "seeds", "start", "parallel", "dry_run"), ("results", "document", "check")
        if given := [name for name in (runs if self.report_only else reports) if getattr(self, name)]:
            where = "has no place beside" if self.report_only else "belongs to"
            raise ValueError(f"--{given[0].replace('_', '-')} {where} --report-only")
        if self.report_only and not self.results:
            raise ValueError("--report-only: give the folders of --results")
        if self.report_only and self.output is None and self.document is None:
            raise ValueError("--report-only: give --output, --document or both")
        if self.check and self.document is None:
            raise ValueError("--check compares a document's tables; give --document")
        if not self.report_only and (self.plan is None or self.output is None):
            raise ValueError("--plan and --output are needed (see --help)")
        return self


def main(argv: list[str] | None = None) -> None:
    """Run, or report; exit code 1 if a run failed."""
    options = parse(AblateOptions, __doc__, argv)
    if options.report_only:
        from shared.ablation.report import report

        report(options.results, options.output, options.document, options.check)
        return
    assert options.plan is not None and options.output is not None, "the options are checked"
    plan = load_plan(options.plan)
    if options.start is not None and plan.start is None:
        raise UserError(f"--start {options.start}: the variants of {plan.name} start from nothing; leave it out")
    from shared.ablation.report import summarise
    from shared.ablation.runner import evaluation_workers, run

    parallel = options.parallel or plan.parallel
    jobs = Jobs(plan, options.output, evaluation_workers(parallel), given=options.start)
    groups = jobs.groups(plan.chosen_variants(options.only), plan.chosen_seeds(options.seeds))
    if options.dry_run:
        for job in chain(*groups):
            print(f"# {job.name}" + (", done" if job.done else ""))
            print("\n".join(shlex.join(step.command) for step in job.steps))
        return
    failures = run(jobs, groups, parallel)
    summarise(options.output)
    for failure in failures:
        print(f"failed: {failure.job}: {failure.reason}", file=sys.stderr)
    if failures:
        sys.exit(1)


if __name__ == "__main__":
    run_main(main)
