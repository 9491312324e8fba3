"""The processes of a run, with a launcher or without, on CPU (gloo) or CUDA (nccl), and how they part."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch

from shared.utils.allocator import keep_freed_memory
from shared.utils.errors import UserError
from shared.utils.signals import Stopped

# Long: one rank may sample validation clips while the others wait.
TIMEOUT = timedelta(hours=2)


@dataclass(frozen=True)
class World:
    """One process among all: `rank` of `size`, computing on `device`."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def of_groups(self, size: int) -> World:
        """Give the world whose members are groups of `size` neighbours, as this process sees it."""
        return World(self.rank // size, self.size // size, self.device)


@contextlib.contextmanager
def session() -> Iterator[World]:
    """Join the processes of this run (one without a launcher) and part in good order; a session within one is the same.
    Everything that holds an engine must be gone when the block ends, or gloo may abort the interpreter at exit."""
    if torch.distributed.is_initialized():
        yield _world()
        return
    _prepare_environment()
    keep_freed_memory()
    import deepspeed
    from deepspeed.comm import comm

    deepspeed.utils.logger.setLevel("ERROR")
    # Otherwise the first start compiles this op for a minute; no environment variable prevents it (DeepSpeed 0.19).
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    try:
        deepspeed.init_distributed("nccl" if cuda else "gloo", timeout=TIMEOUT, verbose=False)
    except (OSError, RuntimeError) as error:  # a port in use, no network, too many open files
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        reason = str(error).splitlines()[0]
        why = f"the processes of this run cannot meet at {place} ({reason})"
        raise UserError(f"{why}; another run may be there: give another --master_port") from None
    try:
        yield _world()
    except (UserError, Stopped) as error:
        traceback.clear_frames(error.__traceback__)  # they hold the engine
        raise
    finally:
        gc.collect()
        comm.destroy_process_group()  # DeepSpeed's: it forgets the groups that it keeps, too
        comm.cdb = None
        gc.collect()


def _world() -> World:
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    return World(torch.distributed.get_rank(), torch.distributed.get_world_size(), device)


def barrier() -> None:
    """Wait for every process."""
    if torch.distributed.get_world_size() > 1:
        torch.distributed.barrier()


def gather(value: Any) -> list[Any]:
    """Gather the picklable `value` of every rank, in rank order, on every rank."""
    values = [value] * torch.distributed.get_world_size()
    if len(values) > 1:
        torch.distributed.all_gather_object(values, value)
    return values


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether `flag` holds on at least one rank."""
    return bool(highest(int(flag), device))


def highest(number: int, device: torch.device) -> int:
    """Largest `number` of all ranks."""
    if torch.distributed.get_world_size() == 1:
        return number
    tensor = torch.tensor(float(number), device=device)
    torch.distributed.all_reduce(tensor, op=torch.distributed.ReduceOp.MAX)
    return int(tensor.item())


def _prepare_environment() -> None:
    """Set what DeepSpeed reads at import and at start; a launcher's own values are kept."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}.items():
        os.environ.setdefault(name, value)
    if os.environ["WORLD_SIZE"] == "1":
        # A port of our own, even where an earlier run in this process left one: it may be taken by now.
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            os.environ["MASTER_PORT"] = str(free.getsockname()[1])
    elif "OMP_NUM_THREADS" not in os.environ:
        # Two processes that both use every core spin against each other.
        local = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // local))
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(torch|deepspeed)\.")
