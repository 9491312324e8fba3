"""Settings that must stand before torch or a library of Hugging Face is imported; one thread per test."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("DS_ACCELERATOR", "cpu")

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """A test that changes the number of threads does not change it for the next."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
