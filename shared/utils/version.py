"""Which code it is."""

import subprocess
from pathlib import Path


def commit() -> str:
    """Find the commit of the code, with a mark where files differ from it; "unknown" outside a git checkout."""
    command = ["git", "-C", str(Path(__file__).resolve().parents[2]), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
