"""What both sampling scripts ask about a sample and its model, how they load it, and where they may write."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from shared.checkpoint.folder import load_checkpoint
from shared.checkpoint.lora_file import lora_file, read_header
from shared.checkpoint.offload import Level
from shared.utils import cli
from shared.utils.allocator import keep_freed_memory
from shared.utils.cli import Pixels, Thresholds, TrustOptions, option
from shared.utils.errors import EveryRanksError, UserError
from shared.utils.launch import Launch, tell
from shared.utils.ranges import Fade, Fps, Rank, Seed, Steps, Workers
from shared.utils.startup import quick_imports

SHORT = 0.1  # s by which a given file may be shorter than --duration: codecs round


def shipped_checkpoint() -> Path:
    """Find the checkpoint that comes with the repository, in the checkout or an installed wheel (pyproject.toml)."""
    checkout = Path(__file__).resolve().parents[2] / "assets" / "puppets"
    if not checkout.is_dir():
        with suppress(PackageNotFoundError):
            for file in files("ccl") or ():
                if file.match("share/ccl/puppets/model_index.json"):
                    return Path(file.locate()).resolve().parent
    return checkout


def few_step_checkpoint() -> Path:
    """Find the folder that was distilled from it for few steps; a wheel does not have it."""
    return Path(__file__).resolve().parents[2] / "assets" / "puppets_few"


def file_and_scale(text: str) -> tuple[Path, float]:
    """Read a value of --lora: FOLDER or FILE, or either with =SCALE (1). UserError as `read_header`, or for a scale."""
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
    return file, scale


class SamplingOptions(TrustOptions):
    """Options of a script that samples from a checkpoint. The files of --lora are read with them, weights are not."""

    prompt: str | None = option(None, "what to see", metavar="TEXT")
    timed_prompts: Path | None = option(None, "lines of SECONDS, TEXT", metavar="FILE")
    fade: Fade | None = option(
        None, "seconds over which one text of --timed-prompts fades into the next; default: 0, a cut", metavar="S"
    )
    negative_prompt: str | None = option(None, "what guidance leads away from; default: the empty text", metavar="TEXT")
    image: Path | None = option(None, "png, jpeg or webp: the first frame")
    fps: Fps | None = option(None, "pictures a second; default: the checkpoint's", metavar="F")
    size: Pixels | None = option(
        None, "of the pictures: pixels as 64, or HEIGHTxWIDTH as 64x96; default: the checkpoint's", metavar="H[xW]"
    )
    seed: Seed = option(0, "the same seed makes the same sample")
    steps: Steps | None = option(None, "solver steps; default: the pipeline's")
    checkpoint: Path = option(shipped_checkpoint(), "default: the shipped assets/puppets", metavar="DIR")
    lora: list[str] = option(
        [], "adapters that training with lora wrote (docs/lora.md), at a scale, default 1; any number",
        metavar="DIR[=SCALE]", repeat=True,
    )  # fmt: skip
    fuse_lora: bool = option(False, "add them to the weights first: each step then is faster")
    memory: Level = option(
        "fast", "fast (default): all on the device; balanced: one component at a time; low: layer by layer, weights in "
        "fp8 (docs/memory.md)",
    )  # fmt: skip
    device: str = option("auto", "auto (default: a GPU if there is one), cpu, cuda, cuda:1 ...")
    dtype: Literal["float32", "bfloat16"] = option("float32", "of the model")
    attention: str = option("native", "backend: native (default), flash, xformers ...")
    step_cache: Thresholds | None = option(
        None, "leave blocks out where a stream changes by less from step to step, as 0.1 (docs/performance.md); "
        "default: never", metavar="V[,A]",
    )  # fmt: skip
    compile: bool = option(False, "compile the blocks: minutes at first, less per clip; for many clips, or a GPU")
    context_parallel: Workers = option(
        1, "processes that make each sample together, started by torchrun or deepspeed (docs/scaling.md)"
    )
    local_rank: Rank = option(0, "what launchers pass; the environment says the same", hidden=True)

    @model_validator(mode="after")
    def _usable(self) -> SamplingOptions:
        if self.prompt is not None and not self.prompt.strip():
            raise ValueError("--prompt is empty; a text is needed")
        if self.fade is not None and self.timed_prompts is None:
            raise ValueError("--fade has no effect without --timed-prompts; leave it out")
        if self.fuse_lora and not self.lora:
            raise ValueError("--fuse-lora: there is nothing to fuse without --lora; leave it out")
        if self.compile and self.step_cache is not None:
            raise ValueError("--step-cache needs blocks that are not compiled; leave it or --compile out")
        if self.step_cache is not None and self.context_parallel > 1:
            raise ValueError("--step-cache and --context-parallel do not go together; leave one of them out")
        if self.launch.size > 1 and self.device != "auto":
            raise ValueError(f"--device {self.device}: a launcher gives each process its own; leave it out")
        if self.compile and self.context_parallel > 1:
            raise ValueError(
                "--compile cannot compile what processes exchange; leave --compile or --context-parallel out"
            )
        self.adapters()
        return self

    @cached_property
    def launch(self) -> Launch:
        """Place of this process among those of its launcher. UserError as `Launch.of`."""
        return Launch.of(self.context_parallel)

    def adapters(self) -> list[tuple[Path, float]]:
        """Read the values of --lora, files and scales. UserError as `file_and_scale`."""
        return [file_and_scale(text) for text in self.lora]

    def given_arguments(self) -> dict[str, Any]:
        """Arguments of a pipeline; options without a value leave it its own default."""
        arguments = {"negative_prompt": self.negative_prompt, "num_inference_steps": self.steps, "fps": self.fps}
        arguments |= dict(zip(("height", "width"), self.size or (), strict=False))
        return {name: value for name, value in arguments.items() if value is not None}


def load_model(kind: type[Any], options: SamplingOptions) -> Any:
    """Load the pipeline `kind` of --checkpoint with its adapters, where and how the options say. Raises UserError."""
    keep_freed_memory()
    with quick_imports(options.compile):
        return _load(kind, options)


def _load(kind: type[Any], options: SamplingOptions) -> Any:
    import torch

    device = cli.device(options.device)
    if options.launch.size > 1 and device.type == "cuda":
        device = torch.device("cuda", torch.cuda.current_device())
    dtype = getattr(torch, options.dtype)
    adapters = {f"lora_{index}": lora for index, lora in enumerate(options.adapters())}
    left_out = () if adapters else kind.unused_components  # adapters may be for these too
    trusted = options.trust_package
    pipeline = load_checkpoint(kind, options.checkpoint, dtype, trusted_packages=trusted, left_out=left_out)
    if adapters:
        for name, (file, _) in adapters.items():
            pipeline.load_lora_weights(file, adapter_name=name)
        pipeline.set_adapters(list(adapters), [scale for _, scale in adapters.values()])
    if options.fuse_lora:
        pipeline.fuse_lora()
    if options.fps not in (None, pipeline.config.fps) and not hears_frame_rate(pipeline.transformer):
        known = f"the checkpoint's model was trained at {pipeline.config.fps:g} and is not told the frame rate"
        tell(f"warning: --fps {options.fps:g}: {known}; things may move too fast or too slowly")
    for line in pipeline.set_memory(options.memory, device):
        tell(line)
    if options.context_parallel > 1:
        _divide(pipeline.transformer, options.context_parallel)
    return pipeline


def _divide(transformer: Any, together: int) -> None:
    """Let this process and its neighbours hold samples together (`shared.nn.context_parallel`). UserError where the
    model cannot, or its heads do not divide."""
    from diffusers import ContextParallelConfig

    if not hasattr(transformer, "context_group"):
        kind = type(transformer).__name__
        raise EveryRanksError(f"--context-parallel {together} divides the joint model alone, not {kind}; leave it out")
    transformer.enable_parallelism(config=ContextParallelConfig(ulysses_degree=together))


def hears_frame_rate(transformer: Any) -> bool:
    """Tell whether a pipeline's transformer is one whose video stream is told its frame rate (`frame_rate`)."""
    return bool(dict(transformer.config.get("video") or {}).get("frame_rate", False))


def existing_folder(path: Path) -> Path:
    """Find the nearest folder above `path` that is there."""
    return next(parent for parent in path.absolute().parents if parent.exists())


def check_output(output: Path, files: Iterable[Path], inputs: Iterable[Path | None]) -> None:
    """Raise UserError unless `files`, all beside `output`, can be written and are none of the `inputs`."""
    folder = existing_folder(output)
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"--output {output}: {folder} is no folder that can be written to")
    given = [path.resolve() for path in inputs if path is not None]
    for file in files:
        if file.is_dir() or file.resolve() in given:
            raise UserError(f"--output {file}: is a folder or a given file; give another name")
