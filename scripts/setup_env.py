"""Last step of the installation: make torchaudio importable beside a CPU build of torch.

torchaudio's wheel carries libraries compiled against CUDA. With a CPU torch they cannot be loaded, `import
torchaudio` raises OSError, and every audio class of transformers fails with it. Nothing in this project
calls them, and torchaudio runs without them, so on a CPU torch they are removed. Beside a CUDA torch
nothing is touched. Safe to run any number of times. Exchanging a CPU torch for a CUDA one later: `pip
install --force-reinstall --no-deps torchaudio`.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def torch_build() -> str | None:
    """The accelerator this torch was built for ("CUDA 13.0", "ROCm 7.0"), or None for a CPU build."""
    import torch

    if torch.version.cuda:
        return f"CUDA {torch.version.cuda}"
    return f"ROCm {torch.version.hip}" if torch.version.hip else None


def compiled_libraries() -> list[Path]:
    """torchaudio's compiled libraries. The package is located without being imported: importing is what
    fails."""
    spec = importlib.util.find_spec("torchaudio")
    if spec is None or spec.origin is None:
        sys.exit("error: torchaudio is not installed in this environment; run `make setup` first")
    folder = Path(spec.origin).parent / "lib"
    return sorted(path for pattern in ("*.so", "*.pyd", "*.dylib") for path in folder.glob(pattern))


def main() -> None:
    build = torch_build()
    libraries = compiled_libraries()
    if build is not None:
        print(f"torchaudio: left as it is (torch has {build})")
    elif not libraries:
        print("torchaudio: nothing to do (CPU torch, compiled libraries already removed)")
    else:
        for path in libraries:
            path.unlink()
        names = ", ".join(path.name for path in libraries)
        print(f"torchaudio: this torch is a CPU build; removed the CUDA-only {names}")
    import torchaudio

    print(f"torchaudio {torchaudio.__version__} imports")


if __name__ == "__main__":
    main()
