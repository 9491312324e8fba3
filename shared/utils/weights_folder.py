"""What the files of a folder of weights say: config.json, and names, shapes and types of tensors; none is read."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from shared.utils.errors import UserError
from shared.utils.files import read_json

#: Names of weights, before their ending, as diffusers and transformers write them.
DIFFUSERS, TRANSFORMERS = "diffusion_pytorch_model", "model"
#: Element types of weights as they are; others are whole numbers, or quantised and need their scales.
FLOATS = ("F64", "F32", "F16", "BF16")
#: The largest number of anything that a config may count: layers, channels, words, samples a second ...
LARGEST = 2**20
LONGEST_LIST = 4096
#: Names of what is counted, and of what cannot be 0 either.
_STEPS = re.compile(r"stride|kernel|dilation|heads|rate|ratio|multiple|hop|factor")
#: Names of a base of angles, which may be as large as it likes, and of layers that are counted from the last, -1.
_BASE, _FROM_LAST = re.compile(r"rope_theta$"), re.compile(r"feature_layer($|\.)")
_COUNTS = re.compile(_STEPS.pattern + r"|(^|[._])(num|n)_|layer|block|size|dim|channel|length|token|bin")
ADVICE = "copy the whole folder again"


class Header(NamedTuple):
    """What a file says of one tensor; `dtype` in safetensors' words."""

    dtype: str
    shape: tuple[int, ...]
    file: str


def check_numbers(config: Mapping[str, Any], name: str) -> None:
    """Raise UserError if a number in a configuration, which messages call `name`, is not finite, above `LARGEST`, or
    cannot be a count where its key is one; or for an absurdly long list."""
    for key, value in _values(config):
        if isinstance(value, list) and len(value) > LONGEST_LIST:
            raise UserError(f"{name} has a list of {len(value)} in {key}; at most {LONGEST_LIST} can be: {ADVICE}")
    for key, value in numbers_in(config):
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{name} has {key} = {value}; a finite number is needed: {ADVICE}")
        if abs(value) > LARGEST and not _BASE.search(key):
            raise UserError(f"{name} has {key} = {value}; at most {LARGEST} can be: {ADVICE}")
        least = -LARGEST if _FROM_LAST.search(key) else 1 if _STEPS.search(key) else 0
        if isinstance(value, int) and value < least and _COUNTS.search(key):
            raise UserError(f"{name} has {key} = {value}; a count cannot be that: {ADVICE}")


def read_config(folder: Path, where: str) -> dict[str, Any]:
    """Read config.json, numbers checked. UserError: damaged, absurd, or of quantised weights."""
    config = read_json(folder / "config.json", f"{where}config.json", ADVICE)
    check_numbers(config, f"{where}config.json")
    if config.get("quantization_config") is not None:
        raise UserError(f"{where}config.json has a quantization_config; take weights in {', '.join(FLOATS)}")
    return config


def numbers_in(config: Any) -> Iterator[tuple[str, int | float]]:
    """Find every number of a configuration, and the key where it stands: video.num_layers, dim_mult.0."""
    for key, value in _values(config):
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield key, value


def _values(config: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    yield key, config
    if isinstance(config, Mapping | list | tuple):
        for part, value in config.items() if isinstance(config, Mapping) else enumerate(config):
            yield from _values(value, f"{key}.{part}" if key else str(part))


def read_headers(folder: Path, where: str = "", stems: Iterable[str] = (DIFFUSERS, TRANSFORMERS)) -> dict[str, Header]:
    """Find the weights of a model by name: those in the files of its index, or in its one file, under one of `stems`.
    UserError, with `where` (default: the folder) before the file's name: a file is missing, damaged, or not what its
    index says; a name stands in two of them."""
    where = where or f"{folder}/"
    stems = list(stems)
    for stem in stems:
        if (index := folder / f"{stem}.safetensors.index.json").is_file():
            return _indexed(folder, where, index.name)
        if (folder / f"{stem}.safetensors").is_file():
            return read_header(folder / f"{stem}.safetensors", f"{where}{stem}.safetensors")
    others = [file.name for file in sorted(folder.glob("*.safetensors"))]
    if not others or len(stems) == 1:
        raise UserError(f"{where}{stems[0]}.safetensors is missing; {ADVICE}")
    return _joined(folder, where, others)  # a user's own class may have its own names


def read_header(file: Path, name: str = "") -> dict[str, Header]:
    """Read what one safetensors file says of its tensors. UserError, with `name` for the file, if it is damaged."""
    try:
        with safe_open(file, framework="np") as handle:
            parts = {key: handle.get_slice(key) for key in handle.keys()}  # noqa: SIM118  it is no mapping
            return {key: Header(part.get_dtype(), tuple(part.get_shape()), file.name) for key, part in parts.items()}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{name or file} is damaged ({error}); {ADVICE}") from None


def index_map(content: dict[str, Any], name: str) -> dict[str, str]:
    """Read `weight_map` of an index, {tensor: file beside it}. UserError, with `name` for the index, if it has none."""
    entries = content.get("weight_map")
    if not isinstance(entries, dict) or not entries:
        raise UserError(f"{name} has no weight_map; {ADVICE}")
    for key, file in entries.items():
        if not isinstance(file, str) or not file.endswith(".safetensors") or file != Path(file).name:
            raise UserError(f"{name} has {key} in {file!r}; a safetensors file beside it is needed: {ADVICE}")
    return entries


def _indexed(folder: Path, where: str, index: str) -> dict[str, Header]:
    entries = index_map(read_json(folder / index, where + index, ADVICE), where + index)
    found = _joined(folder, where, sorted(set(entries.values())))
    for name in sorted(entries.keys() | found.keys()):
        here, there = entries.get(name), found[name].file if name in found else None
        if here != there:
            what = f"{name} in {here or 'no file'}, and it is in {there or 'none'}"
            raise UserError(f"{where}{index} has {what}; {ADVICE}")
    return found


def _joined(folder: Path, where: str, files: Iterable[str]) -> dict[str, Header]:
    found: dict[str, Header] = {}
    for file in files:
        if not (folder / file).is_file():
            raise UserError(f"{where}{file} is missing; {ADVICE}")
        part = read_header(folder / file, where + file)
        if twice := sorted(found.keys() & part.keys()):
            raise UserError(f"{where}{file} has {twice[0]}, and so has {found[twice[0]].file}; {ADVICE}")
        found |= part
    return found
