"""Plan a training before a GPU is rented: memory, time, disk, and what a sample needs; from shapes alone.

    python scripts/plan.py --config configs/train/ccl_wan1.3b_joint.yaml --gpus 1 --card h100 --price 2.5
    python scripts/plan.py --recipes configs/recipes.yaml      # the table of docs/scaling.md

Nothing of what the configuration names has to be there. Memory is that of one process: weights, gradients and optimizer
as DeepSpeed keeps them with the file that `deepspeed` names, and the activations of the heaviest task, while
the model runs on the meta device. Of a configuration with stages the first one's memory is told, and all steps' time.
"""

from pathlib import Path
from typing import Any

from ccl.analysis.plan_report import HEAD, PlanOptions, plan_text, read_recipes, report_of, sampling_text
from mtv.curriculum import CurriculumConfig
from shared.utils import config_file
from shared.utils.cli import parse
from shared.utils.config import TrainConfig
from shared.utils.errors import UserError, run_main
from shared.utils.markdown import markdown_table


def main(argv: list[str] | None = None) -> None:
    options = parse(PlanOptions, __doc__, argv)
    numbers: dict[str, Any] = {}
    if options.config is None:
        assert options.recipes is not None, "one of them is given"
        rows = []
        for recipe in read_recipes(options.recipes):
            report = report_of(read_config(Path(recipe.config), recipe.overrides), recipe.gpus, recipe.card, options)
            rows.append([*report.row(f"{recipe.name}: `{recipe.command}`")])
            numbers[recipe.name] = report.numbers()
        print(markdown_table(HEAD, rows))
    else:
        config = read_config(options.config, options.overrides)
        report = report_of(config, options.gpus, options.card, options)
        numbers = report.numbers()
        print(plan_text(report, options))
        if options.dtype != "none":
            numbers["sampling"], text = sampling_text(config, options)
            print(f"\n{text}")
    if options.json_file is not None:
        from ccl.analysis.timing import write_report

        write_report(options.json_file, "plan", options, numbers)


def read_config(path: Path, overrides: list[str]) -> TrainConfig:
    """Read a configuration; of stages the first, with the steps of all. UserError for a CogVideoX's."""
    if "stages" not in config_file.read(path, overrides):
        return TrainConfig.load(path, overrides)
    config = CurriculumConfig.load(path, overrides)
    if config.backbone is not None:
        raise UserError(f"{path}: has a backbone; plans are of the joint model")
    stage = config.stage(0)
    return stage.model_copy(update={"train": stage.train.model_copy(update={"steps": config.train.steps})})


if __name__ == "__main__":
    run_main(main)
