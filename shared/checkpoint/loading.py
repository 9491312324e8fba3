"""What both sampling scripts ask about the model, and how they load it: adapters and memory."""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.checkpoint.folder import load_checkpoint
from shared.checkpoint.lora_file import lora_file, read_header
from shared.checkpoint.offload import LEVELS
from shared.utils.errors import UserError

if TYPE_CHECKING:  # a script says what is wrong with its arguments before torch is loaded
    import torch

#: What `add_argument` is told of --lora, --fuse-lora and --memory.
LORA: dict[str, Any] = {
    "action": "append", "default": [], "metavar": "DIR[=SCALE]",
    "help": "adapters that training with lora wrote (docs/lora.md), at a scale, default 1; any number",
}  # fmt: skip
FUSE_LORA: dict[str, Any] = {"action": "store_true", "help": "add them to the weights first: each step then is faster"}
MEMORY: dict[str, Any] = {
    "choices": LEVELS, "default": "fast",
    "help": "fast (default): all on the device; balanced: one component at a time; low: layer by layer, weights in "
    "fp8 (docs/memory.md)",
}  # fmt: skip


@dataclass(frozen=True)
class LoraOption:
    """An argument of --lora: a file of adapters, and how much they count."""

    file: Path
    scale: float = 1.0

    @classmethod
    def parse(cls, text: str) -> LoraOption:
        """FOLDER or FILE, or either followed by =SCALE; what is there under the whole name needs none.

        Raises UserError as `shared.checkpoint.lora_file.read_header`, or for a scale that is no number.
        """
        path, equals, number = text.rpartition("=")
        if not equals or Path(text).exists():
            path, number = text, "1"
        try:
            scale = float(number)
        except ValueError:
            scale = math.nan
        if not math.isfinite(scale):
            raise UserError(f"--lora {text}: {number!r} is no scale; FOLDER or FOLDER=SCALE is needed, as style=0.8")
        file = lora_file(path)
        read_header(file)
        return cls(file, scale)


def check_model_arguments(options: argparse.Namespace) -> None:
    """Read the files of --lora. Raises UserError as `LoraOption.parse`."""
    options.lora = [LoraOption.parse(text) for text in options.lora]
    if options.fuse_lora and not options.lora:
        raise UserError("--fuse-lora: there is nothing to fuse without --lora; leave it out")


def load_model(kind: type[Any], options: argparse.Namespace, dtype: torch.dtype, device: torch.device) -> Any:
    """The pipeline `kind` of --checkpoint with its adapters, on `device` as --memory says. UserError as these say."""
    pipeline = load_checkpoint(kind, options.checkpoint, dtype)
    names = [f"lora_{index}" for index in range(len(options.lora))]
    for name, lora in zip(names, options.lora, strict=True):
        pipeline.load_lora_weights(lora.file, adapter_name=name)
    if names:
        pipeline.set_adapters(names, [lora.scale for lora in options.lora])
    if options.fuse_lora:
        pipeline.fuse_lora()
    for line in pipeline.set_memory(options.memory, device):
        print(line, file=sys.stderr)
    return pipeline
