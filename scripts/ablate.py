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

import argparse
import shlex
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shared.ablation.jobs import Job, Jobs, Scripts
from shared.ablation.machine import cores, machine
from shared.ablation.plan import Plan, dump_plan, load_plan
from shared.utils.cli_old import Parser
from shared.utils.errors import UserError, run_main

if TYPE_CHECKING:
    from shared.ablation.runner import Failure

SCRIPTS = Scripts()


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(argv)
    if options.report_only:
        report(options)
        return
    plan = load_plan(options.plan)
    variants, seeds = chosen_variants(plan, options.only), chosen_seeds(plan, options.seeds)
    parallel = options.parallel or plan.parallel
    jobs = Jobs(plan, options.output, evaluation_workers(parallel), SCRIPTS, checked_start(plan, options.start))
    groups = jobs.groups(variants, seeds)
    if options.dry_run:
        for job in (job for group in groups for job in group):
            print(f"# {job.name}" + (", done" if job.done else ""))
            print("\n".join(shlex.join(step.command) for step in job.steps))
        return
    failures = run(jobs, groups, parallel)
    summarise(options.output, failures)


def run(jobs: Jobs, groups: Sequence[Sequence[Job]], parallel: int) -> list[Failure]:
    """Do what is not done, each finished run's result at once in OUTPUT/results."""
    from shared.ablation.runner import Runner, check_claims, claim

    plan = jobs.plan
    check_seeds(plan)
    # all that is there, not only what is to be done now: the report takes every result
    check_claims([job for group in jobs.groups(list(plan.variants), plan.seeds) for job in group])
    claim([job for group in groups for job in group])
    keep_plan(plan, jobs.output)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the runs are ended too
    return Runner(parallel, lambda job: keep(jobs, job)).run(groups)


def keep(jobs: Jobs, job: Job) -> None:
    """Write what remains of a finished job. Raises UserError where an endpoint was not measured."""
    from shared.ablation.results import Folders, collect, collect_guidance
    from shared.utils.files import write_json

    plan, folder = jobs.plan, jobs.output / "results"
    kind, _, name = job.name.rpartition(" ")
    variant, _, seed = name.rpartition("-")
    if kind == "guidance":
        write_json(folder / f"guidance-{name}.json", collect_guidance(plan, job.folder, variant, int(seed)))
    elif not kind and variant:
        trained = jobs.folder(plan.source(variant), int(seed)) / "train"
        folders = Folders(job.folder, jobs.probes(variant, int(seed)), trained)
        write_json(folder / f"{name}.json", collect(plan, folders, variant, int(seed)))
        for picture in sorted((job.folder / "pictures").glob("*.png"))[:1]:
            (folder / "pictures").mkdir(exist_ok=True)
            shutil.copyfile(picture, folder / "pictures" / f"{variant}.png")


def keep_plan(plan: Plan, output: Path) -> None:
    """OUTPUT/results/plan.yaml, whose results stand beside it; those that it no longer has are taken away."""
    from shared.utils.files import write_atomically

    folder = output / "results"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "plan.yaml", dump_plan(plan))
    own = {f"{name}-{seed}.json" for name in plan.variants for seed in plan.seeds}
    own |= {f"guidance-{plan.guidance.variant}-{seed}.json" for seed in plan.guidance.seeds} if plan.guidance else set()
    for file in folder.glob("*.json"):
        if file.name not in own:
            file.unlink()


def summarise(output: Path, failures: Sequence[Failure]) -> None:
    """Write the report over what there is, print its endpoints, and exit with 1 if any run failed."""
    from shared.ablation.report import PAGE, TABLE, write_report
    from shared.ablation.results import read_results
    from shared.ablation.tables import endpoint, facts

    every = read_results([output / "results"])
    write_report(output, every)
    for results in every:
        print(facts(results))
        print("\n".join(endpoint(results, metric).markdown() for metric in results.plan.endpoints))
    print(f"{output / PAGE}\n{output / TABLE}")
    for failure in failures:
        print(f"failed: {failure.job}: {failure.reason}", file=sys.stderr)
    if failures:
        sys.exit(1)


def report(options: argparse.Namespace) -> None:
    """The report and the document's tables from results alone."""
    from shared.ablation.report import PAGE, TABLE, update_document, write_report
    from shared.ablation.results import read_results

    every = read_results(options.results)
    if options.document is not None:
        update_document(options.document, every, options.check)
    if options.output is not None and not options.check:
        write_report(options.output, every)
        print(f"{options.output / PAGE}\n{options.output / TABLE}")


def check_seeds(plan: Plan) -> None:
    """Refuse clips that evaluate.py measures on."""
    from shared.evaluation.held_out import HELD_OUT_SEED

    for name, clips in plan.clips.items():
        if clips.seed == HELD_OUT_SEED:
            raise UserError(f"clips.{name}: seed {clips.seed} is that of evaluate.py's held-out clips; take another")


def checked_start(plan: Plan, start: Path | None) -> Path | None:
    if start is not None and plan.start is None:
        raise UserError(f"--start {start}: the variants of {plan.name} start from nothing; leave it out")
    return start


def evaluation_workers(parallel: int) -> int | None:
    """Processes that sample in an evaluation: a run's share of the cores, or evaluate.py's own choice on a GPU."""
    return None if machine()["gpus"] else max(1, cores() // parallel)


def chosen_variants(plan: Plan, only: str | None) -> list[str]:
    """The variants that --only names, by themselves or by their group; without it all. The reference of a comparison
    is not added."""
    if only is None:
        return list(plan.variants)
    names = [name.strip() for name in only.split(",")]
    groups = {variant.group for variant in plan.variants.values()}
    for name in names:
        if name not in plan.variants and name not in groups:
            known = ", ".join([*plan.variants, *sorted(groups)])
            raise UserError(f"--only {name}: no such variant or group in the plan; it has {known}")
    return [name for name, variant in plan.variants.items() if {name, variant.group} & set(names)]


def chosen_seeds(plan: Plan, seeds: str | None) -> list[int]:
    if seeds is None:
        return plan.seeds
    try:
        numbers = [int(part) for part in seeds.split(",")]
    except ValueError:
        raise UserError(f"--seeds {seeds}: give numbers, as 0,1,2") from None
    for seed in numbers:
        if seed not in plan.seeds:
            raise UserError(f"--seeds {seed}: the plan has {', '.join(map(str, plan.seeds))}")
    return numbers


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--plan", type=Path, metavar="FILE", help="a YAML file of configs/ablation/")
    add("--output", type=Path, metavar="DIR", help="for the runs and the report")
    add("--start", type=Path, metavar="DIR", help="begin from this checkpoint; train no start")
    add("--only", metavar="NAMES", help="variants or groups of the plan, between commas; default: all")
    add("--seeds", metavar="LIST", help="some of the plan's seeds, between commas; default: all")
    add("--parallel", type=int, metavar="N", help="runs side by side; default: the plan's")
    add("--dry-run", action="store_true", help="print the commands, and whether they are done; run nothing")
    add("--report-only", action="store_true", help="run nothing; make the report from --results")
    add("--results", type=Path, nargs="+", metavar="DIR", help="results/ folders of ablations")
    add("--document", type=Path, metavar="FILE", help="a Markdown file with marks for each plan's tables")
    add("--check", action="store_true", help="change nothing; exit code 2 if the document's tables are out of date")
    return checked(parser.parse_args(argv))


def checked(options: argparse.Namespace) -> argparse.Namespace:
    """Refuse options that do not go together."""
    alone = {"plan": "--plan", "only": "--only", "seeds": "--seeds"}
    alone |= {"start": "--start", "parallel": "--parallel", "dry_run": "--dry-run"}
    report = {"results": "--results", "document": "--document", "check": "--check"}
    wrong = [flag for name, flag in (alone if options.report_only else report).items() if getattr(options, name)]
    if wrong:
        where = "has no place beside" if options.report_only else "belongs to"
        raise UserError(f"{wrong[0]} {where} --report-only")
    if options.report_only and not options.results:
        raise UserError("--report-only: give the folders of --results")
    if options.report_only and options.output is None and options.document is None:
        raise UserError("--report-only: give --output, --document or both")
    if options.check and options.document is None:
        raise UserError("--check compares a document's tables; give --document")
    if not options.report_only and (options.plan is None or options.output is None):
        raise UserError("--plan and --output are needed (see --help)")
    if options.parallel is not None and options.parallel < 1:
        raise UserError(f"--parallel {options.parallel}: give 1 or more")
    return options


if __name__ == "__main__":
    run_main(main)
