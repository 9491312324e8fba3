"""What one training step keeps on one GPU, counted from shapes before anything is run.

Weights, gradients, optimizer and buffers follow from how `shared.training.trainer` sets DeepSpeed up. Activations are
counted while the model's own code runs on the meta device: every operation says what it makes and autograd what it
keeps. Two things are put in there: matrix products are in the precision of the training, and attention keeps its
inputs, its output and one number per query and head, as flash kernels do: O(N), not O(N²).
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, linear, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.checkpoint import checkpoint

from ccl.flops import Tokens, meta_inputs, on_meta
from ccl.routing import Task
from ccl.transformer import DualStreamTransformer, StreamInput
from shared.nn.clock import LatentClock

GIB = 2**30
FP32, BF16 = 4, 2
LIVE = 1_000_000_000  # DeepSpeed's `stage3_max_live_parameters`: values of gathered weights at a time under ZeRO-3


class Parameters(NamedTuple):
    """Values of a model: those that learn, those that are frozen, and how many of each are in linear layers."""

    trained: int
    frozen: int
    linear: int  # of all
    frozen_linear: int = 0

    @classmethod
    def of(cls, model: nn.Module) -> Parameters:
        """Count the values of `model`."""
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
        layers = [p for m in model.modules() if isinstance(m, nn.Linear) for p in m.parameters(recurse=False)]
        still = sum(p.numel() for p in layers if not p.requires_grad)
        return cls(trained, frozen, sum(p.numel() for p in layers), still)

    @property
    def all(self) -> int:
        return self.trained + self.frozen


@dataclass(frozen=True)
class Setting:
    """How a run keeps its state. `offload`: to the host, the optimizer (ZeRO-1 to 3) or all, weights too (ZeRO-3).
    `parts`: how many take turns in being cast to bf16 of what is frozen: blocks that are computed again, else 1.
    ValueError for a ZeRO stage that there is not, no GPU, or an offload that its stage does not know."""

    zero: int
    gpus: int
    precision: Literal["fp32", "bf16"] = "bf16"
    ema: bool = True
    offload: Literal["none", "optimizer", "all"] = "none"
    bucket: int = 500_000_000  # DeepSpeed's `reduce_bucket_size`: values that are reduced together
    parts: int = 1

    def __post_init__(self) -> None:
        if self.zero not in range(4):
            raise ValueError(f"ZeRO stage {self.zero}: there are 0, 1, 2 and 3")
        if self.gpus < 1 or self.bucket < 1:
            raise ValueError(f"{self.gpus} GPUs, buckets of {self.bucket}: at least one of each is needed")
        least = {"none": 0, "optimizer": 1, "all": 3}[self.offload]
        if self.zero < least:
            raise ValueError(f"offload of {self.offload} needs ZeRO-{least} at least, not {self.zero}")


class MemoryUse(NamedTuple):
    """Bytes of one kind on each GPU, and on the host for each GPU."""

    what: str
    gpu: int
    host: int = 0


def states(parameters: Parameters, setting: Setting) -> list[MemoryUse]:
    """List what a run keeps from step to step, and the buffers of its communication.

    DeepSpeed 0.19, with fp32 weights in every stage (bf16 is `torch_autocast`): stages 1 and 2 clone their part of the
    weights as the optimizer's own; stage 3 does so only for an optimizer on the host. Stage 1 reduces whole gradients,
    stages 2 and 3 keep a part. AdamW keeps two moments, and the average where there is one. Autocast keeps the casts of
    weights that learn through a pass; one of a frozen weight lives as long as the backward pass of its block needs it.
    """
    zero, parts = setting.zero, setting.gpus if setting.zero else 1
    own, host = FP32 * -(-parameters.trained // parts), setting.offload != "none"
    master = own if zero in (1, 2) or (zero == 3 and host) else 0
    moments = "moments and average" if setting.ema else "moments"
    bf16 = setting.precision == "bf16" and zero < 3  # stage 3 gathers them in bf16
    cast = parameters.linear - parameters.frozen_linear + -(-parameters.frozen_linear // setting.parts)
    rows = [
        ("weights", FP32 * -(-parameters.all // (parts if zero == 3 else 1)), setting.offload == "all"),
        # stage 1 makes whole gradients on the GPU wherever the optimizer is
        ("gradients", own if zero >= 2 else FP32 * parameters.trained, host and zero >= 2),
        ("optimizer: own copy of the weights", master, host),
        (f"optimizer: {moments}", (3 if setting.ema else 2) * own, host),
        ("buffers of communication", _buffers(parameters, setting), False),
        ("weights in bf16, for the products of a pass", BF16 * cast if bf16 else 0, False),
    ]
    return [MemoryUse(what, 0, size) if to_host else MemoryUse(what, size) for what, size, to_host in rows if size]


def _buffers(parameters: Parameters, setting: Setting) -> int:
    """One bucket of gradients per type that is communicated; under ZeRO-3 also the gathered weights."""
    if setting.zero == 0 or (setting.gpus == 1 and setting.zero < 3):
        return 0
    bucket = min(setting.bucket, parameters.trained)
    if setting.zero < 3:
        return FP32 * bucket
    gathered = min(LIVE, parameters.all)
    if setting.precision == "fp32":
        return FP32 * (bucket + gathered)
    return (FP32 + BF16) * bucket + BF16 * gathered  # norms and modulation stay in fp32


class Activations(NamedTuple):
    """Bytes beyond weights and gradients: `kept` when the forward pass ends, `peak` at the worst moment of the step."""

    kept: int
    peak: int


def step_bytes(
    model: Any, run: Callable[[], Tensor], precision: Literal["fp32", "bf16"], checkpointing: bool = False
) -> Activations:
    """Count what a forward and backward pass of `run() -> loss` allocates beyond `model` and its inputs, on the meta
    device. With `bf16` linear layers are cast, as by autocast; with `checkpointing` blocks keep their inputs only."""
    products = Products(torch.bfloat16 if precision == "bf16" else None)
    for module in model.modules() if checkpointing else ():
        if getattr(module, "_supports_gradient_checkpointing", False):
            module.enable_gradient_checkpointing(products.checkpoint)
    if precision == "bf16":
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.to(torch.bfloat16)
    for parameter in model.parameters():  # else they would count as new
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    with warnings.catch_warnings(), LiveBytes("meta") as live:
        warnings.filterwarnings("ignore", "Mismatch dtype between input and weight")  # as in training
        with products:
            loss = run()
        kept = live.now
        loss.backward()
    return Activations(kept, live.peak)


class LiveBytes(TorchDispatchMode):
    """Bytes of the tensors on `device` that were made since it began and still live: `now`, and at most, `peak`."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device, self.now, self.peak = device, 0, 0
        self._sizes: dict[int, int] = {}
        self._before: dict[int, Any] = {}  # what was there already; held, so that no address comes twice

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for storage in self._storages((args, kwargs)):
            if storage._cdata not in self._sizes:
                self._before[storage._cdata] = storage
        result = func(*args, **kwargs)
        for storage in self._storages(result):
            key = storage._cdata
            if key not in self._sizes and key not in self._before:
                self._sizes[key] = storage.nbytes()
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._free, key)
        return result

    def _storages(self, tree: Any) -> list[Any]:
        leaves = (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))
        return [leaf.untyped_storage() for leaf in leaves if leaf.device.type == self.device]

    def _free(self, key: int) -> None:
        self.now -= self._sizes.pop(key)


class Products(TorchFunctionMode):
    """Autocast of the matrix products to `dtype` (None: as they are), which the meta device has not, and attention."""

    def __init__(self, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (linear, conv1d, torch.matmul, torch.bmm, torch.einsum, scaled_dot_product_attention):
            args, kwargs = tree_map(self._cast, (args, kwargs))
        if func is scaled_dot_product_attention:
            given = dict(zip(("query", "key", "value"), args, strict=False)) | kwargs
            return _Attention.apply(given["query"], given["key"], given["value"])
        return func(*args, **kwargs)

    def checkpoint(self, function: Callable[..., Any], *args: Any) -> Any:
        """`torch.utils.checkpoint`; what is computed again, in the backward pass, has the mode too."""
        return checkpoint(function, *args, use_reentrant=False, context_fn=lambda: (nullcontext(), self))

    def _cast(self, value: Any) -> Any:
        return value.to(self.dtype) if self.dtype and isinstance(value, Tensor) and value.is_floating_point() else value


class _Attention(torch.autograd.Function):
    """What a flash kernel makes and keeps of q [B, h, N, d], k and v [B, h, M, d]; no values."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # type: ignore[override]
        out = torch.empty_like(q.transpose(1, 2), memory_format=torch.contiguous_format).transpose(1, 2)
        ctx.save_for_backward(q, k, v, out, q.new_empty(q.shape[:3], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        return tuple(torch.empty_like(given) for given in ctx.saved_tensors[:3])


DEPTHS = (2, 3)
"""Blocks of the models that are looked at: all blocks are alike, so what the third adds every further one adds."""

Counts = TypeVar("Counts", Parameters, Activations)


@dataclass(frozen=True)
class LatentSizes:
    """One clip as the model gets it: video latents F x H x W, audio tokens, text tokens; their clock."""

    frames: int
    height: int
    width: int
    audio: int
    text: int
    fps: float = 16.0
    temporal_stride: int = 4
    audio_rate: float = 25.0

    def tokens(self, patch: tuple[int, int]) -> Tokens:
        """With video patches of (height, width) latents."""
        space, per_latent = (self.height // patch[0]) * (self.width // patch[1]), self.audio_rate * self.temporal_stride
        return Tokens(self.frames, space, self.audio, self.text, per_latent / self.fps)

    def inputs(self, model: DualStreamTransformer, batch: int) -> tuple[StreamInput, StreamInput]:
        """Make inputs of so many clips for `model`, on the meta device."""
        clock = LatentClock.causal_video(self.frames, self.fps, self.temporal_stride)
        clocks, latents = (clock, LatentClock.at_rate(self.audio, self.audio_rate)), (self.frames, self.height)
        return meta_inputs(model, (*latents, self.width), self.audio, self.text, clocks, batch)


def parameters(config: Mapping[str, Any]) -> Parameters:
    """Of a `DualStreamTransformer` with `config`, all of them trained."""
    return _at_depth(config, Parameters.of)


def activations(
    config: Mapping[str, Any], sizes: LatentSizes, batch: int = 1, task: Task = Task.T2AV,
    precision: Literal["fp32", "bf16"] = "bf16", checkpointing: bool = False,
    prepare: Callable[[DualStreamTransformer], object] = lambda model: None,
) -> Activations:  # fmt: skip
    """Of one forward and backward pass of `task` with `batch` clips; `checkpointing` keeps the blocks' inputs only.
    `prepare` is done to the model first: what is frozen there, or added, counts so."""

    def count(model: DualStreamTransformer) -> Activations:
        prepare(model)
        inputs = sizes.inputs(model.train(), batch)

        def run() -> Tensor:
            outputs = model(task.route, *inputs)
            return torch.stack([part.float().square().mean() for part in outputs if part is not None]).sum()

        return step_bytes(model, run, precision, checkpointing)

    return _at_depth(config, count)


def _at_depth(config: Mapping[str, Any], count: Callable[[DualStreamTransformer], Counts]) -> Counts:
    return carried_on(lambda depth: count(on_meta(config, depth)), config["video"]["num_layers"])


def carried_on(count: Callable[[int], Counts], layers: int, every: int = 1) -> Counts:
    """Carry counts at `DEPTHS`, times `every`, on to so many `layers`, number by number; all runs of `every` blocks are
    alike."""
    few, more = (count(depth * every) for depth in DEPTHS)
    further = layers / every - DEPTHS[0]
    return type(few)(*(round(a + further * (b - a)) for a, b in zip(few, more, strict=True)))
