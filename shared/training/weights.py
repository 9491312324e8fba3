"""Weights of models in training: where they start, copies of them to sample from, and what is exported."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from shared.checkpoint.folder import save_checkpoint
from shared.utils.config import Train
from shared.utils.errors import UserError
from shared.utils.finite import check_tensors, check_weights
from shared.utils.weights_folder import read_headers

#: Parameters and buffers by name.
StateDict = dict[str, Tensor]
#: A model of diffusers' kind: with `from_pretrained`, `from_config` and `config`.
Model = TypeVar("Model", bound=Any)


def initialise(
    model: Model, folder: Path, skip: Callable[[str], bool] = lambda name: False,
    added: Callable[[str], bool] = lambda name: False,
) -> Model:  # fmt: skip
    """Give `model` the weights of a checkpoint's component in `folder`, but for those that `skip` names, and those that
    `added` names where the folder has none; return it. UserError where other names or shapes differ, or a weight is not
    finite. On the meta device no weight is read: names and shapes alone are compared."""
    dry = next(model.parameters()).is_meta
    if dry:
        theirs = saved_shapes(folder)
    else:
        saved = type(model).from_pretrained(folder)
        check_weights(saved, str(folder))
        theirs = saved.state_dict()
    ours, theirs = ({k: v for k, v in one.items() if not skip(k)} for one in (model.state_dict(), theirs))
    for name, here, there in _differences(ours, theirs):
        if there == "absent" and added(name):
            continue
        raise UserError(f"{folder}: {name} is {there}, and {here} in the configuration; make them agree")
    if not dry:
        model.load_state_dict(model.state_dict() | theirs)
    return model


def saved_shapes(folder: Path) -> StateDict:
    """Weights of a component's folder without their values, on the meta device. UserError if a file is damaged."""
    headers = read_headers(folder).items()
    return {name: torch.empty(header.shape, device="meta") for name, header in headers}


def with_weights(model: Model, weights: StateDict, prefix: str) -> Model:
    """Build a model like `model`, for sampling, with those of `weights` whose names begin with `prefix`."""
    other: Model = type(model).from_config(model.config)
    other.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
    return other.eval()


def export_pipeline(pipeline: Any, folder: str | Path, card: str, train: Train) -> None:
    """Write the checkpoint folder with its model card; "bf16" leaves in float32 what its model keeps so."""
    for model in filter(None, (pipeline.transformer, pipeline.control)):
        kept = model._keep_in_fp32_modules or ()
        for name, parameter in model.named_parameters():
            if train.export_dtype == "bf16" and not any(part in name for part in kept):
                parameter.data = parameter.data.to(torch.bfloat16)
    save_checkpoint(pipeline, folder, card, train.shard_size)


def check_names(weights: StateDict, models: Mapping[str, nn.Module | None], folder: Path) -> None:
    """Refuse the `weights` of a state in `folder` if their names or shapes are not those of `models`, by prefix, or if
    one is not finite."""
    ours = nn.ModuleDict({part: model for part, model in models.items() if model is not None}).state_dict()
    for name, here, there in _differences(ours, weights):
        raise UserError(
            f"checkpoint {folder}: {name} is {there}, and {here} in the run's config.yaml; a state goes with the run "
            "that wrote it"
        )
    check_tensors(weights, f"checkpoint {folder}")


def _differences(ours: StateDict, theirs: StateDict) -> Iterator[tuple[str, Any, Any]]:
    """Yield (name, our shape, their shape) where they differ; what is missing is "absent"."""
    for name in sorted(ours.keys() | theirs.keys()):
        here, there = (list(weights[name].shape) if name in weights else "absent" for weights in (ours, theirs))
        if here != there:
            yield name, here, there
