"""Files of LoRA weights in any layout: found, and their headers checked, before a model is loaded."""

from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from shared.checkpoint.folder import PICKLES
from shared.checkpoint.lora_layout import Layout, group_tensors
from shared.utils import cli, weights_folder
from shared.utils.errors import UserError
from shared.utils.files import check_place, read_json
from shared.utils.text_files import parse_json
from shared.utils.weights_folder import FLOATS

FILE = "pytorch_lora_weights.safetensors"  # diffusers' name
PEFT_FILE, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"  # PEFT's, which are one model's
METADATA = "lora_adapter_metadata"  # and its place for PEFT's settings, in the file's header
ADVICE = "it is damaged, or of another program"
COMPONENTS = ("transformer", "control")
#: Element types of adapters as they are used; others are whole numbers, which an alpha alone may be.
TYPES = (*FLOATS, "F8_E4M3", "F8_E5M2")


class LoraOptions(cli.Options):
    """LoRA weights, in any layout, written in another."""

    source: Path = cli.option(help="folder of adapters, or a .safetensors file")
    layout: Layout = cli.option(help="of the output (docs/lora.md)")
    output: Path = cli.option(help="new folder; of original and musubi a new .safetensors file")
    dtype: Literal["keep", "float32", "bfloat16", "float16"] = cli.option("keep", "of the weights")


def lora_file(source: str | Path, weight_name: str | None = None) -> Path:
    """Find the one safetensors file, or `weight_name`, at `source`. UserError: none, several, or a pickle."""
    path = Path(source, weight_name or "")
    if path.is_dir():
        usual = [path / name for name in (FILE, PEFT_FILE) if (path / name).is_file()]
        files = usual[:1] or sorted(path.glob("*.safetensors"))
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
    if file.name == PEFT_FILE:
        if not (config := file.with_name(PEFT_CONFIG)).is_file():
            raise UserError(f"lora {file}: no {PEFT_CONFIG} beside it, which says alpha; copy the whole folder")
        said = read_json(config, f"lora {config}")
        settings = {f"{component}.{key}": value for component in COMPONENTS for key, value in said.items()}
    if not isinstance(settings, dict):
        raise UserError(f"lora {file}: its {METADATA} holds no settings by name; {ADVICE}")
    for name in (f"{component}.{kind}_pattern" for component in COMPONENTS for kind in ("rank", "alpha")):
        if not isinstance(settings.get(name) or {}, dict):
            raise UserError(f"lora {file}: {name} is no table; {ADVICE}")
    shapes(file)
    return settings


def shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the LoRA weights in a file, by name. UserError: damaged, not of LoRA alone, or no floating numbers."""
    headers = weights_folder.read_header(file, f"lora {file}:")
    group_tensors(headers, str(file))
    for name, header in headers.items():
        if header.dtype not in TYPES and not name.endswith(".alpha"):
            raise UserError(f"lora {file}: {name} is in {header.dtype}; one of {', '.join(TYPES)} is needed")
    return {name: header.shape for name, header in headers.items()}


def check_output(path: Path, layout: Layout) -> None:
    """Raise UserError unless `path` is a new place for adapters in this layout: a file's, or a folder's."""
    kind: Literal["file", "folder"] = "file" if layout in ("original", "musubi") else "folder"
    if kind == "file" and path.suffix != ".safetensors":
        raise UserError(f"--output {path}: {layout} is one file; give a name that ends in .safetensors")
    if kind == "folder" and path.suffix == ".safetensors":
        raise UserError(f"--output {path}: {layout} is a folder; give a name without .safetensors")
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f"--output {path}: exists already; remove it or choose another place")
    check_place("--output", path, kind)
