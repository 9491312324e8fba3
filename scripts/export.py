"""Make a checkpoint to sample from out of the state that a training run saved, whatever ZeRO stage and processes.

    python scripts/export.py --run outputs/mine --output outputs/mine_2000 --step 2000
    python scripts/export.py --run outputs/mine --output outputs/last_weights --no-ema

One process without a launcher. The run may be going on, or have ended anywhere after its first state. The model's
configuration is read from RUN/config.yaml; components that it names are needed. Of a run with stages RUN is a stage's
folder. With `lora` the adapters are written to OUTPUT/lora and, if other parts have learnt too, the model to
OUTPUT/checkpoint.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtv.curriculum import BackboneConfig
from shared.training.card import Progress, model_card
from shared.training.consolidate import StateFolder, latest_checkpoint, read_about, whole_weights
from shared.utils.cli_old import Parser
from shared.utils.config import TrainConfig, load_config_as
from shared.utils.errors import UserError, run_main

if TYPE_CHECKING:  # what is wrong with the arguments is said before torch is loaded
    from torch import Tensor


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    config = read_config(args.run)
    average = bool(config.train.ema) if args.ema is None else args.ema
    if average and not config.train.ema:
        raise UserError(f"--ema: {args.run} keeps no average (train.ema is 0); leave it out")
    checkpoint = find_state(args.run, args.step)
    if args.output.exists() and not (args.output.is_dir() and not any(args.output.iterdir())):
        raise UserError(f"--output {args.output}: exists already; remove it or choose another place")
    export(config, checkpoint, average, args.output)
    print(f"{checkpoint.folder} written to {args.output}")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--run", type=Path, required=True, help="OUTPUT of train_ccl.py, or a stage's of train_mtv.py")
    parser.add_argument("--output", type=Path, required=True, help="new checkpoint folder")
    parser.add_argument("--step", type=int, help="of RUN/state; the latest by default")
    kind = parser.add_mutually_exclusive_group()
    said = "the default if the run keeps an average"
    kind.add_argument("--ema", action="store_const", const=True, help=f"the average of the weights: {said}")
    kind.add_argument("--no-ema", action="store_const", const=False, dest="ema", help="the weights themselves")
    return parser.parse_args(argv)


def read_config(run: Path) -> TrainConfig:
    """The run's configuration, with `output` where the run is now: a `BackboneConfig` if it trains CogVideoX.

    UserError if there is no run.
    """
    file = run / "config.yaml"
    if not file.is_file():
        stages = sorted(str(folder.parent) for folder in run.glob("*/config.yaml"))
        one = f"it has the stages {', '.join(stages)}; give one of them" if stages else "give OUTPUT of train_ccl.py"
        raise UserError(f"--run {run}: no config.yaml there; {one}")
    on_backbone = any(line.startswith("backbone:") for line in file.read_text(encoding="utf-8").splitlines())
    kind = BackboneConfig if on_backbone else TrainConfig
    return load_config_as(kind, file).model_copy(update={"output": str(run)})


def find_state(run: Path, step: int | None) -> StateFolder:
    """The state after `step` steps, or the latest. UserError if there is none."""
    state = run / "state"
    found = sorted(int(file.parent.name.removeprefix("step")) for file in state.glob("step*/about.json"))
    if not found:
        raise UserError(
            f"--run {run}: no complete state in {state}; the first comes after train.checkpoint_every steps"
        )
    if step is not None:
        if step not in found:
            raise UserError(f"--step {step}: {state} has {', '.join(map(str, found))}")
        return read_about(state / f"step{step:08d}")
    latest = latest_checkpoint(state)
    return latest if latest is not None else read_about(state / f"step{found[-1]:08d}")


def export(config: TrainConfig, checkpoint: StateFolder, average: bool, output: Path) -> None:
    """Write the checkpoint folder. UserError if the state is damaged, or is not of this configuration's model."""
    weights = whole_weights(checkpoint, "ema" if average else None)
    progress = Progress(checkpoint.step, processes=checkpoint.processes, average=average)
    if isinstance(config, BackboneConfig):
        from mtv.cogvideox.build import CogVideoXAssembly
        from mtv.cogvideox.training import model_card as backbone_card

        assembly, card = CogVideoXAssembly(config), backbone_card(config, progress)
    else:
        from ccl.training.build import Assembly

        assembly, card = Assembly(config), model_card(config, progress)
    _check_names(assembly, weights, checkpoint)
    assembly.save(weights, output if config.lora is None else output / "checkpoint", card)


def _check_names(assembly: object, weights: dict[str, Tensor], checkpoint: StateFolder) -> None:
    """Refuse a state whose names or shapes are none of this model's."""
    own = {
        f"{part}.{name}": tuple(value.shape)
        for part in ("transformer", "control")
        if (model := getattr(assembly, part)) is not None
        for name, value in model.state_dict().items()
    }
    found = {name: tuple(value.shape) for name, value in weights.items()}
    for name in sorted(own.keys() | found.keys()):
        if own.get(name) != found.get(name):
            raise UserError(
                f"checkpoint {checkpoint.folder}: {name} is {found.get(name, 'absent')}, and "
                f"{own.get(name, 'absent')} in the run's config.yaml; a state goes with the run that wrote it"
            )


if __name__ == "__main__":
    run_main(main)
