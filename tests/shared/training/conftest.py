from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # the toy, which subprocesses run as a script too


@pytest.fixture(scope="session")
def world():
    from shared.training import distributed

    torch.set_num_threads(1)
    with distributed.session() as joined:
        yield joined
