"""What is written for others: the mode that the umask gives, and no folder of the machine that wrote it."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: What diffusers and transformers add to a configuration: where the model was loaded from.
_ORIGIN = re.compile(r',?\s*"_?name_or_path": "(?:[^"\\]|\\.)*"(?=\s*})|\s*"_?name_or_path": "(?:[^"\\]|\\.)*",')
#: An absolute path at the end of a value: alone, or after what names its kind (wav2vec2:PATH, package:Class@PATH).
_ABSOLUTE = re.compile(r"((?:^|[:@]))(/[^/].*)$", re.S)


def portable(value: Any) -> Any:
    """Give `value`, a path or settings that hold some, with every absolute path reduced to its last two names."""
    if isinstance(value, Mapping):
        return {name: portable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [portable(inner) for inner in value]
    if isinstance(value, str | Path):
        return _ABSOLUTE.sub(lambda found: found[1] + "/".join(Path(found[2]).parts[1:][-2:]), str(value))
    return value


def new_file_mode(path: Path) -> int:
    """Find the mode that the umask gives a new file at `path`, where there is none that is needed."""
    path.unlink(missing_ok=True)
    path.touch()
    try:
        return path.stat().st_mode & 0o777
    finally:
        path.unlink()


def settle(folder: Path) -> None:
    """Give files that a library keeps private (safetensors) the mode of other new files and their metadata an order,
    and take out of the configurations where their models were loaded from."""
    mode = new_file_mode(folder / ".mode")
    for file in folder.rglob("*"):
        if file.is_symlink() or not file.is_file():
            continue
        if file.suffix == ".safetensors":
            _sort_metadata(file)
            if file.stat().st_mode & 0o777 == 0o600:
                file.chmod(mode)
        if file.name.endswith(("config.json", "model_index.json")):
            text = file.read_text(encoding="utf-8")
            if (clean := _ORIGIN.sub("", text)) != text:
                file.write_text(clean, encoding="utf-8")


def _sort_metadata(file: Path) -> None:
    """Put the metadata of a safetensors file in order: the library leaves several of them in a random one."""
    with open(file, "r+b") as opened:
        size = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(size))
        about = header.get("__metadata__", {})
        if list(about) != sorted(about):
            header["__metadata__"] = dict(sorted(about.items()))
            text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
            if len(text) > size:
                raise ValueError(f"{file}: its header of {size} bytes cannot hold {len(text)}")
            opened.seek(8)
            opened.write(text.ljust(size))
