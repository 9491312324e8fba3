"""What a run is done on."""

from __future__ import annotations

import os
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """Cores, torch's version and the GPU, if there is one."""
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = "unknown"
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        gpus = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split("\n")
    except (OSError, subprocess.CalledProcessError):
        gpus = []
    return {"cores": cores(), "torch": torch, "gpus": [gpu.strip() for gpu in gpus if gpu.strip()]}
