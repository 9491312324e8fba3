"""How near a pass of a model comes to what its machine can do: operations and bytes from shapes, rates as measured.

Each operation is looked at as it runs, in its own kernels: a product of matrices, or attention, counts its operations
and its bytes, each input read and each output written once; all others count their bytes alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from ccl.analysis.timing import copy_rate, matmul_rate

aten = torch.ops.aten
#: What torch 2.13 does not count: the CPU's fused attention.
CPU_ATTENTION: dict[Any, Callable[..., int]] = {
    aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v: sdpa_flop_count(q.shape, k.shape, v.shape),
    aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda grad, q, k, v: sdpa_backward_flop_count(
        grad.shape, q.shape, k.shape, v.shape
    ),
}


class Work(NamedTuple):
    """Operations and bytes of some kernels."""

    flops: int = 0
    bytes: int = 0


@dataclass
class Counted:
    """What a pass takes: `products` of matrices with their shapes (m, k, n), `attention`, and bytes of all the rest."""

    products: Counter[Work] = field(default_factory=Counter)
    shapes: Counter[tuple[int, int, int]] = field(default_factory=Counter)
    attention_flops: int = 0
    other_bytes: int = 0

    @property
    def flops(self) -> int:
        return sum(work.flops * times for work, times in self.products.items())

    @property
    def product_bytes(self) -> int:
        return sum(work.bytes * times for work, times in self.products.items())

    @property
    def bytes(self) -> int:
        return self.product_bytes + self.other_bytes


class Rates(NamedTuple):
    """What a machine reached: operations per second at the shapes of a model, bytes per second of a copy."""

    flops: float
    bytes: float


class Roofline(NamedTuple):
    """The least `seconds` that a pass takes: its operations, or the bytes of its products and attention, at the
    measured rates, whichever is more. All other kernels could be parts of these."""

    counted: Counted
    rates: Rates
    seconds: float

    def text(self, seconds: float) -> str:
        """Write it on two lines beside the `seconds` that were measured."""
        counted, rates = self.counted, self.rates
        attention = counted.attention_flops / counted.flops if counted.flops else 0.0
        return (
            f"{counted.flops / 1e9:.2f} GFLOP, {attention:.0%} of them attention; bytes moved {counted.bytes / 1e9:.2f}"
            f" GB, of which matrix products {counted.product_bytes / 1e9:.2f}; measured rates: {rates.flops / 1e9:.1f} "
            f"GFLOP/s at the products' shapes, copy {rates.bytes / 1e9:.1f} GB/s\n"
            f"roofline: at least {self.seconds * 1e3:.4g} ms, {seconds * 1e3:.4g} measured: "
            f"{self.seconds / seconds:.0%} reached; {counted.flops / seconds / rates.flops:.0%} of the matmul rate"
        )

    def facts(self, seconds: float) -> dict[str, Any]:
        """Numbers of `text`."""
        counted = self.counted
        return {
            "flops": counted.flops, "attention_flops": counted.attention_flops, "bytes": counted.bytes,
            "product_bytes": counted.product_bytes, "matmul_rate": self.rates.flops, "copy_rate": self.rates.bytes,
            "least_seconds": self.seconds, "share_of_roofline": self.seconds / seconds,
            "share_of_matmul_rate": counted.flops / seconds / self.rates.flops,
        }  # fmt: skip


def roofline(counted: Counted, dtype: torch.dtype, device: torch.device | str, repeats: int = 3) -> Roofline:
    """Measure the rates that `counted` asks for, of products of `dtype`, and bound its time by them."""
    rates = Rates(matmul_rate(counted.shapes.elements(), dtype, device, repeats), copy_rate(device, repeats=repeats))
    return Roofline(counted, rates, max(counted.flops / rates.flops, counted.product_bytes / rates.bytes))


def count_work(run: Callable[[], object]) -> Counted:
    """Count what one call of `run`, backward passes included, gives the device to do."""
    counted = Counted()
    with _Counting(counted):
        run()
    return counted


class _Counting(TorchDispatchMode):
    def __init__(self, counted: Counted) -> None:
        super().__init__()
        self.counted = counted

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        inputs, outputs = _tensors((args, kwargs)), _tensors(result)
        if not func._schema.is_mutable:
            given = {tensor.untyped_storage()._cdata for tensor in inputs}
            outputs = [tensor for tensor in outputs if tensor.untyped_storage()._cdata not in given]
        if not outputs:  # a view
            return result
        moved, kind = sum(map(_bytes, inputs)) + sum(map(_bytes, outputs)), func._overloadpacket
        if kind in CPU_ATTENTION:
            flops = CPU_ATTENTION[kind](*args[: 4 if "backward" in func.name() else 3])
        elif kind in flop_registry:
            flops = flop_registry[kind](*args, **kwargs, out_val=result)
        else:
            self.counted.other_bytes += moved
            return result
        self.counted.products[Work(flops, moved)] += 1
        if kind in (aten.mm, aten.addmm):
            a, b = args[-2:]
            self.counted.shapes[a.shape[0], a.shape[1], b.shape[1]] += 1
        elif "attention" in func.name():
            self.counted.attention_flops += flops
        return result


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _bytes(tensor: Tensor) -> int:
    """Count an expanded one as it is stored."""
    return min(tensor.numel() * tensor.itemsize, tensor.untyped_storage().nbytes())
