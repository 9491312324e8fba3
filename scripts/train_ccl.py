"""Train the joint audio-video model.

    deepspeed scripts/train_ccl.py --config configs/train/puppets_tiny.yaml \
        --set data.manifest=clips/manifest.jsonl --set output=outputs/mine

The manifest is a JSON-lines file, or a folder of X.mp4 with X.txt. Running the same command again resumes.
OUTPUT then holds config.yaml, losses.csv, samples/, state/ (to resume) and checkpoint/ (to sample from).

A configuration with `control` and with `mtv` among its tasks trains audio-driven video in the same run, on clips with
tracks (docs/mtv.md).
"""

from shared.training.inputs import TrainOptions, check_inputs
from shared.utils.cli import parse
from shared.utils.config import TrainConfig
from shared.utils.errors import run_main


def main(argv: list[str] | None = None) -> None:
    options = parse(TrainOptions, __doc__, argv)
    config = TrainConfig.load(options.config, options.overrides)
    check_inputs(config)
    from ccl.training.build import JointAdapter
    from ccl.training.run import train

    train(config, JointAdapter)


if __name__ == "__main__":
    run_main(main)
