"""Processes of a run: one without a launcher, and a session within a session."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
#: DeepSpeed allows one process group in each process, and pytest's may have it already.
PROGRAM = """
import torch
from shared.utils.distributed import any_rank, barrier, gather, session
from shared.utils.errors import UserError
with session() as world:
    with session() as inner:
        assert inner == world
    assert torch.distributed.is_initialized()
    barrier()
    assert world.is_main and world.size == 1 and gather("x") == ["x"]
    assert any_rank(True, world.device) and not any_rank(False, world.device)
assert not torch.distributed.is_initialized()
try:
    with session():
        raise UserError("refused")
except UserError as error:
    assert str(error) == "refused" and not torch.distributed.is_initialized()
print("done")
"""


def test_sessions_begin_and_end_and_one_within_another_is_the_same() -> None:
    path = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.endswith("done\n"), done.stderr


def test_a_port_in_use_is_one_line() -> None:
    program = "from shared.utils.distributed import session\nfrom shared.utils.errors import run_main\n"
    program += "run_main(lambda: session().__enter__())"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        env = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", "DS_ACCELERATOR": "cpu"}
        env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(taken.getsockname()[1])}
        env |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "error: the processes of this run cannot meet at 127.0.0.1:" in done.stderr and "EADDRINUSE" in done.stderr
