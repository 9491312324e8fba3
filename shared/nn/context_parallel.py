"""Context parallel: the processes of a group hold a sample together, each a shard of every stream's tokens (Ulysses).

A shard is whole latents in time, one after another, so what goes by latent (modulation, texts over time, partitions,
tracks) is cut where the tokens are; numbers of latents that do not divide give shards of unequal size. Self-attention
exchanges tokens for heads and back (DeepSpeed-Ulysses, arXiv 2309.14509); what another stream reads is gathered.

Gradients: a process gets those of its own tokens, through every path to the outputs. `ContextShard.whole`, by which
outputs are gathered, keeps of a gradient the process's own part. So a parameter's gradient is the sum over a group's.

The configuration is diffusers' `ContextParallelConfig`. Its machinery (0.42) cannot serve underneath: hooks shard plain
tensors alone, equal parts assert that they divide, unequal ones have no backward, gloo gathers only equal ones, and
without an accelerator the mesh is not made (it divides by the number of accelerators, none).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from diffusers import ContextParallelConfig
from diffusers.models._modeling_parallel import ParallelConfig
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from torch import Tensor, distributed
from torch.distributed import _functional_collectives as collectives
from torch.distributed.device_mesh import init_device_mesh

from shared.utils.errors import EveryRanksError


@dataclass(frozen=True)
class ContextGroup:
    """Processes that hold a sample together: this one is number `rank` of `size`."""

    group: distributed.ProcessGroup
    rank: int
    size: int

    def shard(self, stream: str, latents: int, space: int) -> ContextShard:
        """Divide a stream of so many latents, of `space` tokens each, into parts that differ by one latent at most.
        UserError for fewer latents than processes."""
        if latents < self.size:
            few = f"{latents} latents of the {stream} cannot be divided among {self.size} processes"
            raise EveryRanksError(f"context parallel: {few}; take a longer clip, or fewer processes per sample")
        small, larger = divmod(latents, self.size)
        edges = tuple(rank * small + min(rank, larger) for rank in range(self.size + 1))
        return ContextShard(self, edges, space)


@dataclass(frozen=True)
class ContextShard:
    """One stream's tokens on this process: those of the latents `edges[rank]` .. `edges[rank + 1]` − 1."""

    group: ContextGroup
    edges: tuple[int, ...]
    space: int  # tokens of a latent
    reads_here: bool = False  # whether all that these tokens read of the other stream is on this process too

    @property
    def latents(self) -> slice:
        """Those that are here."""
        return slice(*self.edges[self.group.rank : self.group.rank + 2])

    @property
    def tokens(self) -> slice:
        """Those that are here."""
        return slice(self.latents.start * self.space, self.latents.stop * self.space)

    @property
    def counts(self) -> list[int]:
        """Count the latents of each process."""
        return [stop - start for start, stop in pairwise(self.edges)]

    def to_heads(self, *parts: Tensor) -> tuple[Tensor, ...]:
        """Exchange tensors [B, n, h, d] of these tokens for [B, N, h / size, d]: all tokens, of some heads."""
        size = self.group.size
        sent = rearrange(torch.stack(parts), "t b n (r h) d -> (r n) t b h d", r=size)
        got = self._exchange(sent, [parts[0].shape[1]] * size, self._tokens())
        return tuple(rearrange(got, "n t b h d -> t b n h d").unbind())

    def to_tokens(self, x: Tensor) -> Tensor:
        """Exchange [B, N, h / size, d] back for these tokens and all heads, [B, n, h, d]."""
        counts, size = self._tokens(), self.group.size
        got = self._exchange(rearrange(x, "b n h d -> n b h d"), counts, [counts[self.group.rank]] * size)
        return rearrange(got, "(r n) b h d -> b n (r h) d", r=size)

    def gather(self, *parts: Tensor) -> tuple[Tensor, ...]:
        """Gather tensors [B, n, ...] of these tokens to [B, N, ...]; a gradient is the sum over the processes."""
        if len({part.dtype for part in parts}) > 1:  # as under autocast, where a norm gives float32
            return tuple(self.gather(part)[0] for part in parts)
        got = self._gathered(torch.stack(parts).movedim(2, 0), self._tokens())
        return tuple(got.movedim(0, 2).unbind())

    def whole(self, x: Tensor, dim: int) -> Tensor:
        """Gather an output, of latents along `dim`, on every process; of a gradient each keeps its own part."""
        whole = self._gathered(x.detach().movedim(dim, 0), self.counts).movedim(0, dim)
        if not x.requires_grad:
            return whole
        here = self.latents
        before, after = whole.narrow(dim, 0, here.start), whole.narrow(dim, here.stop, self.edges[-1] - here.stop)
        return torch.cat([before, x, after], dim)

    def _tokens(self) -> list[int]:
        return [count * self.space for count in self.counts]

    def _gathered(self, x: Tensor, counts: list[int]) -> Tensor:
        """Gather along the first dimension. As an exchange, of copies: gloo gathers tensors of one size alone."""
        copies = x[None].expand(self.group.size, *x.shape).flatten(0, 1)
        return self._exchange(copies, [len(x)] * self.group.size, counts)

    def _exchange(self, x: Tensor, sent: list[int], got: list[int]) -> Tensor:
        return collectives.all_to_all_single(x.contiguous(), got, sent, self.group.group)


class ContextParallelMixin(ModelMixin):
    """Lets `enable_parallelism(config=ContextParallelConfig(ulysses_degree=N))` divide a model's streams."""

    context_group: ContextGroup | None = None  # None: a process holds all of its samples

    def parallel_heads(self) -> Mapping[str, int]:
        """Heads of each stream's self-attention, by name."""
        raise NotImplementedError

    def enable_parallelism(self, *, config: Any, cp_plan: None = None) -> None:
        """Divide every sample among N processes, neighbours in rank; more processes than N work on different samples.

        All processes of a group are to call the model alike. UserError for heads that N does not divide, for a world
        that N does not divide, for ring attention and for a plan, which this model does not need.
        """
        if getattr(self, "is_cache_enabled", False):
            raise EveryRanksError("a step cache and context parallel do not go together; leave one of them out")
        config = getattr(config, "context_parallel_config", config)
        if self.context_group is not None:
            raise EveryRanksError("context parallel is enabled already; load the model anew to change it")
        if not isinstance(config, ContextParallelConfig) or config.ring_degree != 1 or cp_plan is not None:
            raise EveryRanksError("this model knows ContextParallelConfig(ulysses_degree=N) alone, without a cp_plan")
        size = config.ulysses_degree
        check_heads(self.parallel_heads(), size, "context parallel")
        self._parallel_config = self._resolve_parallel_config(config)
        mesh = config._ulysses_mesh
        self.context_group = ContextGroup(mesh.get_group(), mesh.get_local_rank(), size)

    def _resolve_parallel_config(self, config: Any) -> ParallelConfig:
        """Make the mesh: "data" times "ring", of one, times "ulysses"."""
        if isinstance(config, ContextParallelConfig):
            config = ParallelConfig(context_parallel_config=config)
        chosen, rank, world = config.context_parallel_config, distributed.get_rank(), distributed.get_world_size()
        check_world(chosen.ulysses_degree, world, "context parallel")
        kind = "cpu" if distributed.get_backend() == "gloo" else "cuda"
        shape = (world // chosen.ulysses_degree, 1, chosen.ulysses_degree)
        mesh = chosen.mesh or init_device_mesh(kind, shape, mesh_dim_names=("data", "ring", "ulysses"))
        device = torch.device(kind, torch.cuda.current_device()) if kind == "cuda" else torch.device(kind)
        config.setup(rank, world, device, mesh=mesh)
        return config


def check_heads(heads: Mapping[str, int], size: int, option: str) -> None:
    """Raise UserError, which names `option`, unless `size` processes can share the heads of each stream."""
    for stream, count in heads.items():
        if count % size:
            fits = ", ".join(str(n) for n in range(1, count + 1) if all(each % n == 0 for each in heads.values()))
            raise EveryRanksError(f"{option} {size}: the {stream} stream has {count} heads; one of {fits} divides them")


def check_world(size: int, world: int, option: str) -> None:
    """Raise UserError, which names `option`, unless `world` processes are groups of `size`."""
    if world % size:
        raise EveryRanksError(f"{option} {size}: start {size} processes or a multiple; this run has {world}")
