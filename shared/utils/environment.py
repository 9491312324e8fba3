"""Last step of the installation: make torchaudio importable beside a CPU build of torch, and check the pair.

    python -m shared.utils.environment

torchaudio's wheel carries libraries compiled against CUDA. With a CPU torch they cannot be loaded, `import torchaudio`
raises OSError, and transformers' audio classes, and diffusers with them, fail too. Nothing here calls them, so on a CPU
torch they are removed; beside a CUDA torch nothing is touched. Safe to run any number of times. Exchanging a CPU torch
for a CUDA one later: `pip install --force-reinstall --no-deps torchaudio`."""

import importlib.util
import re
from pathlib import Path
from typing import Any

from shared.utils.errors import UserError, run_main

#: Versions (major, minor) that were tried together: the first and the last.
TESTED = {"torch": ((2, 11), (2, 13)), "torchaudio": ((2, 11), (2, 11))}
RANGES = ", ".join(f"{name} {a}.{b} to {c}.{d}" for name, ((a, b), (c, d)) in TESTED.items())


def torch_build() -> str | None:
    """Name the accelerator that this torch was built for ("CUDA 13.0", "ROCm 7.0"), or None for a CPU build."""
    import torch

    builds = {"CUDA": torch.version.cuda, "ROCm": torch.version.hip}
    return next((f"{name} {version}" for name, version in builds.items() if version), None)


def compiled_libraries() -> list[Path]:
    """Find torchaudio's compiled libraries without importing it: importing is what fails."""
    spec = importlib.util.find_spec("torchaudio")
    if spec is None or spec.origin is None:
        raise UserError("torchaudio is not installed in this environment; run `make setup` first")
    folder = Path(spec.origin).parent / "lib"
    return sorted(path for pattern in ("*.so", "*.pyd", "*.dylib") for path in folder.glob(pattern))


def untested(versions: dict[str, str]) -> str:
    """Say so of a pair that was not tried, {"torch": "2.13.0+cpu", "torchaudio": ...}; nothing if it was."""
    numbers = {name: tuple(map(int, re.findall(r"\d+", version)[:2])) for name, version in versions.items()}
    if all(first <= numbers[name] <= last for name, (first, last) in TESTED.items()):
        return ""
    found = " with ".join(f"{name} {version}" for name, version in versions.items())
    return f"{found}: a pair that was not tested; {RANGES} was, and is what pip should be asked for"


def computes_bf16() -> bool:
    """Whether this processor multiplies in bfloat16 (AVX-512 BF16, AMX); True for one of which torch cannot tell."""
    import torch

    can: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return not can.get("sse") or bool(can.get("avx512_bf16") or can.get("amx_bf16"))


def main() -> None:
    """Remove what cannot be loaded, then import the pair. UserError if it cannot be imported even so."""
    import torch

    libraries = compiled_libraries()
    if build := torch_build():
        print(f"torchaudio: left as it is (torch has {build})")
    elif not libraries:
        print("torchaudio: nothing to do (CPU torch, compiled libraries already removed)")
    else:
        for path in libraries:
            path.unlink()
        names = ", ".join(path.name for path in libraries)
        print(f"torchaudio: this torch is a CPU build; removed the CUDA-only {names}")
    try:
        import torchaudio
    except OSError as error:
        what = f"torchaudio does not load beside torch {torch.__version__} ({error})"
        raise UserError(f"{what}; install {RANGES}") from None
    versions = {"torch": torch.__version__, "torchaudio": torchaudio.__version__}
    print(untested(versions) or f"torchaudio {torchaudio.__version__} imports beside torch {torch.__version__}")


if __name__ == "__main__":
    run_main(main)
