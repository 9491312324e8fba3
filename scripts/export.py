"""Make a checkpoint to sample from out of the state that a training run saved, whatever ZeRO stage and processes.

    python scripts/export.py --run outputs/mine --output outputs/mine_2000 --step 2000
    python scripts/export.py --run outputs/mine --output outputs/last_weights --no-ema

One process without a launcher. The run may be going on, or have ended anywhere after its first state. The model's
configuration is read from RUN/config.yaml; components that it names are needed. Of a run with stages RUN is a stage's
folder. With `lora` the adapters are written to OUTPUT/lora and, if other parts have learnt too, the model to
OUTPUT/checkpoint.
"""

from pathlib import Path
from typing import Any

from mtv.curriculum import BackboneConfig
from shared.training.card import Progress
from shared.training.consolidate import find_state, whole_weights
from shared.utils import cli
from shared.utils.config import TrainConfig
from shared.utils.errors import UserError, run_main
from shared.utils.ranges import Count
from shared.utils.text_files import read_text, split_lines


class Options(cli.Options):
    run: Path = cli.option(help="OUTPUT of train_ccl.py, or a stage's of train_mtv.py")
    output: Path = cli.option(help="new checkpoint folder", writes="folder")
    step: Count | None = cli.option(None, "of RUN/state; the latest by default")
    ema: bool | None = cli.option(
        None, "the average of the weights, or the weights themselves; by default the average if the run keeps one"
    )


def main(argv: list[str] | None = None) -> None:
    options = cli.parse(Options, __doc__, argv)
    config = _read_config(options.run)
    average = bool(config.train.ema) if options.ema is None else options.ema
    if average and not config.train.ema:
        raise UserError(f"--ema: {options.run} keeps no average (train.ema is 0); leave it out")
    state = find_state(options.run, options.step)
    if options.output.is_file() or (options.output.exists() and any(options.output.iterdir())):
        raise UserError(f"--output {options.output}: exists already; remove it or choose another place")
    from ccl.training.build import JointAdapter
    from ccl.training.distill import without_average
    from mtv.cogvideox_adapter import CogVideoXAdapter
    from shared.training.weights import check_names

    weights = without_average(whole_weights(state, "ema" if average else None))
    model: Any = CogVideoXAdapter(config) if isinstance(config, BackboneConfig) else JointAdapter(config)
    model.components.text.learn(None)  # a state does not hold the captions
    check_names(weights, {"transformer": model.transformer, "control": model.control}, state.folder)
    progress = Progress(state.step, processes=state.processes, average=average)
    model.save(weights, options.output if config.lora is None else options.output / "checkpoint", progress)
    print(f"{state.folder} written to {options.output}")


def _read_config(run: Path) -> TrainConfig:
    """Read the run's configuration, with `output` where the run is now: a `BackboneConfig` if it trains CogVideoX."""
    file = run / "config.yaml"
    if not file.is_file():
        stages = sorted(str(folder.parent) for folder in run.glob("*/config.yaml"))
        advice = f"it has the stages {', '.join(stages)}; give one of them" if stages else "give OUTPUT of train_ccl.py"
        raise UserError(f"--run {run}: no config.yaml there; {advice}")
    on_backbone = any(line.startswith("backbone:") for line in split_lines(read_text(file), str(file)))
    kind = BackboneConfig if on_backbone else TrainConfig
    return kind.load(file).model_copy(update={"output": str(run)})


if __name__ == "__main__":
    run_main(main)
