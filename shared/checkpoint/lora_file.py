"""Files of LoRA weights as diffusers writes them: found and checked before a model is loaded."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from shared.checkpoint.folder import PICKLES
from shared.utils import weights_folder
from shared.utils.errors import UserError
from shared.utils.text_files import parse_json
from shared.utils.weights_folder import FLOATS

FILE = "pytorch_lora_weights.safetensors"  # diffusers' name
METADATA = "lora_adapter_metadata"  # and its place for PEFT's settings, in the file's header
ADVICE = "it is damaged, or of another program"
COMPONENTS = ("transformer", "control")
SUFFIXES = (".lora_A.weight", ".lora_B.weight")


def lora_file(source: str | Path, weight_name: str | None = None) -> Path:
    """Find the one safetensors file, or `weight_name`, at `source`. UserError: none, several, or a pickle."""
    path = Path(source, weight_name or "")
    if path.is_dir():
        files = [path / FILE] if (path / FILE).is_file() else sorted(path.glob("*.safetensors"))
        if len(files) > 1:
            raise UserError(f"lora {path}: {', '.join(file.name for file in files)}: name one of these files")
        files = files or [file for file in sorted(path.iterdir()) if file.suffix in PICKLES]
        if not files:
            raise UserError(f"lora {path}: no {FILE} in it; give the folder that training wrote, or a file")
        path = files[0]
    if path.suffix in PICKLES:
        raise UserError(f"lora {path}: a pickle is not opened; a .safetensors file is needed")
    if not path.is_file():
        raise UserError(f"lora {path}: no such file or folder")
    return path


def read_header(file: Path) -> dict[str, Any]:
    """PEFT's settings by component, "transformer.r" (none: scale 1). UserError: damaged, or not of LoRA alone."""
    try:
        with safe_open(file, framework="np") as handle:
            metadata = handle.metadata() or {}
        settings = parse_json(metadata.get(METADATA, "{}"), METADATA)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"lora {file}: cannot be read ({error}); a .safetensors file is needed") from None
    if not isinstance(settings, dict):
        raise UserError(f"lora {file}: its {METADATA} holds no settings by name; {ADVICE}")
    shapes(file)
    return settings


def shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the LoRA weights in a file, by name. UserError: damaged, not of LoRA alone, or no floating numbers."""
    headers = weights_folder.read_header(file, f"lora {file}:")
    check_names(headers, str(file))
    for name, header in headers.items():
        if header.dtype not in FLOATS:
            raise UserError(f"lora {file}: {name} is in {header.dtype}; one of {', '.join(FLOATS)} is needed")
    return {name: header.shape for name, header in headers.items()}


def check_names(names: Iterable[str], where: str) -> None:
    """Raise UserError unless `names` are LoRA weights of our components, and nothing else."""
    names = sorted(names)
    if not any(".lora_" in name for name in names):
        raise UserError(f"lora {where}: holds no LoRA weights; a file that training with lora wrote is needed")
    for name in names:
        if not name.endswith(SUFFIXES) or name.partition(".")[0] not in COMPONENTS:
            known = f"{' and '.join(SUFFIXES)} of layers of {' and '.join(COMPONENTS)}"
            raise UserError(f"lora {where}: {name} is unknown; {known} are loaded")
