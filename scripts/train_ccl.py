"""Train the joint audio-video model.

    deepspeed scripts/train_ccl.py --config configs/train/puppets_tiny.yaml \
        --set data.manifest=clips/manifest.jsonl --set output=outputs/mine

The manifest is a JSON-lines file, or a folder of X.mp4 with X.txt. Running the same command again resumes.
With --dry-run nothing is trained or written: what would be refused is, and memory is told.
OUTPUT then holds config.yaml, losses.csv, samples/, state/ (to resume) and checkpoint/ (to sample from).

A configuration with `control` and with `mtv` among its tasks trains audio-driven video in the same run, on clips with
tracks (docs/mtv.md). One with `stages` trains one after the other, each from what the last one left, as
scripts/train_mtv.py does.
"""

from mtv.curriculum import CurriculumConfig
from shared.training.inputs import TrainOptions, check_inputs
from shared.utils import config_file
from shared.utils.cli import parse
from shared.utils.config import TrainConfig
from shared.utils.errors import UserError, run_main


def main(argv: list[str] | None = None) -> None:
    options = parse(TrainOptions, __doc__, argv)
    in_stages = "stages" in config_file.read(options.config, options.overrides)
    config = (CurriculumConfig if in_stages else TrainConfig).load(options.config, options.overrides)
    if isinstance(config, CurriculumConfig) and config.backbone is not None:
        raise UserError(f"{options.config}: has a backbone; scripts/train_mtv.py trains that")
    check_inputs(config)
    from ccl.training.build import JointAdapter
    from ccl.training.run import train, train_stages

    stages = [config]
    if isinstance(config, CurriculumConfig):
        stages = [config.stage(index) for index in range(len(config.stages))]
    if options.dry_run:
        from ccl.analysis.dry_run_report import dry_run

        print(dry_run(config, stages, JointAdapter))
    elif isinstance(config, CurriculumConfig):
        train_stages(config, stages, JointAdapter)
    else:
        train(config, JointAdapter)


if __name__ == "__main__":
    run_main(main)
