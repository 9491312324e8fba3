from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="session")
def world():
    from shared.utils import distributed

    torch.set_num_threads(1)
    with distributed.session() as joined:
        yield joined
