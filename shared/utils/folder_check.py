"""A folder's config.json against the names, shapes and types in its safetensors, before anything is allocated.

The model is built on the meta device, where tensors have no values. What a config counts is bounded first (`LARGEST`),
and the build stops when it makes many more tensors than the files hold: a hostile config costs neither time nor memory.
"""

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.schedulers.scheduling_utils import SCHEDULER_CONFIG_NAME, SchedulerMixin
from diffusers.utils import logging as diffusers_logging
from torch import nn
from torch.nn.modules import module as hooks
from transformers import PreTrainedModel
from transformers.utils import logging

from shared.utils.errors import UserError
from shared.utils.files import read_json
from shared.utils.portable import settle
from shared.utils.progress import without_idle_words
from shared.utils.weights_folder import (
    ADVICE,
    DIFFUSERS,
    FLOATS,
    TRANSFORMERS,
    Header,
    check_numbers,
    numbers_in,
    read_config,
    read_headers,
)

#: Bytes of what a model computes beside its weights (tables of sines): more is a mistake in its config.
LARGEST_TABLES = 2**30
#: Packages whose classes are built here; one of a user's own may need what the meta device has not.
KNOWN = ("ccl", "mtv", "shared", "diffusers", "transformers")
#: Names of what public files hold besides, and their models do not miss: SpecAugment's mask serves training alone.
NEEDLESS = {"masked_spec_embed"}
#: What a key of a constructor's type is in JSON.
_TYPES = {
    "int": ("a whole number", (int,)), "float": ("a number", (int, float)), "bool": ("true or false", (bool,)),
    "str": ("a text", (str,)),
}  # fmt: skip


class CheckedModelMixin(ModelMixin):
    """A `ModelMixin` whose `from_pretrained` checks a folder first (`check_folder`), and reads safetensors alone."""

    @classmethod
    def from_pretrained(cls, source: str | Path, *args: Any, **options: Any) -> Any:
        """Load the model. UserError as `check_folder`."""
        folder = Path(source, options.get("subfolder") or "")
        if folder.is_dir() and not hasattr(cls, "library_models"):  # these find their parts' folders first
            check_folder(cls, folder)
        return super().from_pretrained(source, *args, **{"use_safetensors": True, **options})

    def save_pretrained(self, folder: str | Path, max_shard_size: int | str = "10GB", **options: Any) -> None:
        """Write the model as diffusers does, in files that others may read, and without the place it came from. A
        pipeline of diffusers looks whether there is `max_shard_size` by name."""
        super().save_pretrained(folder, max_shard_size=max_shard_size, **options)
        settle(Path(folder))


def check_folder(kind: Any, folder: Path, where: str = "") -> None:
    """Raise UserError unless class `kind` makes of the folder's config.json a model of the weights beside it.
    `where` (default: the folder) is how messages name the place. A codec or encoder around models of a library names
    them by a class method `library_models(folder)`: pairs of class and folder."""
    where = where or f"{folder}/"
    if inner := getattr(kind, "library_models", None):
        for part, place in inner(folder):
            check_folder(part, place, where + f"{place.relative_to(folder)}/".removeprefix("./"))
    elif issubclass(kind, PreTrainedModel):
        _check_transformers(kind, folder, where)
    elif issubclass(kind, ModelMixin):
        _check_diffusers(kind, folder, where)
    elif issubclass(kind, SchedulerMixin):
        _check_scheduler(kind, folder / SCHEDULER_CONFIG_NAME, f"{where}{SCHEDULER_CONFIG_NAME}")


def _check_diffusers(kind: Any, folder: Path, where: str) -> None:
    config, headers = read_config(folder, where), read_headers(folder, where, (DIFFUSERS,))
    _check_keys(kind, config, f"{where}config.json")
    try:
        model = _build(kind, config, headers, where)
    except UserError:
        raise
    except Exception as error:
        if kind.__module__.partition(".")[0] not in KNOWN:
            return
        what = f"makes no {kind.__name__} ({type(error).__name__}: {_line(error)})"
        raise UserError(f"{where}config.json {what}{_culprit(kind, config, headers, where)}; {ADVICE}") from error
    expected = {name: (_kind_of(value), tuple(value.shape)) for name, value in model.state_dict().items()}
    ignored = kind._keys_to_ignore_on_load_unexpected or ()
    surplus = [name for name in headers.keys() - expected.keys() if not any(re.search(part, name) for part in ignored)]
    _check_names(sorted(expected.keys() - headers.keys()), sorted(surplus), kind, where)
    for name, (dtype, shape) in expected.items():
        _check_shape(name, headers[name].shape, shape, config, where)
        if _kind_of_header(headers[name]) != dtype:
            raise UserError(f"{where}{headers[name].file} has {name} in {headers[name].dtype}; {dtype} is needed")


def _check_scheduler(kind: Any, file: Path, name: str) -> None:
    config = read_json(file, name, ADVICE)
    check_numbers(config, name)
    _check_keys(kind, config, name)
    try:
        with _quiet(), warnings.catch_warnings(action="ignore"):
            scheduler = kind.from_config(dict(config))
            scheduler.set_timesteps(7)
    except Exception as error:
        raise UserError(f"{name} makes no {kind.__name__} ({_line(error)}); {ADVICE}") from error
    times, last = scheduler.timesteps.double(), config.get("num_train_timesteps", 1000)
    if not bool(((times >= 0) & (times <= last)).all() and (times.diff() <= 0).all()):
        shown = ", ".join(f"{time:.4g}" for time in times)
        raise UserError(f"{name} makes times that do not fall from {last} to 0 ({shown}); {ADVICE}")


def _check_transformers(kind: Any, folder: Path, where: str) -> None:
    """Let the library load the folder on the meta device: it renames tensors of older files, and reports the rest."""
    config, headers = read_config(folder, where), read_headers(folder, where, (TRANSFORMERS,))
    try:
        with _quiet(), _bounded(headers, config, where):
            model, report = kind.from_pretrained(
                folder, device_map="meta", use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True
            )
    except UserError:
        raise
    except Exception as error:  # transformers' own errors have no common class
        raise UserError(f"{where}config.json makes no {kind.__name__} ({_line(error)}); {ADVICE}") from error
    own = {name for name, _ in model.named_children()}  # other parts of a larger model may lie beside its own
    prefix = f"{kind.base_model_prefix}."
    surplus = [name for name in report["unexpected_keys"] if own & set(name.removeprefix(prefix).split(".")[:1])]
    _check_names(sorted(set(report["missing_keys"]) - NEEDLESS), sorted(surplus), kind, where)
    for name, there, here in sorted(report["mismatched_keys"]):
        _check_shape(name, tuple(there), tuple(here), config, where)
    tables = {name for name, value in model.named_buffers() if not value.is_floating_point()}  # of positions, counts
    for name, header in headers.items():
        if header.dtype not in FLOATS and name not in report["unexpected_keys"] and name not in tables:
            raise UserError(f"{where}{header.file} has {name} in {header.dtype}; {' or '.join(FLOATS)} is needed")


def _check_keys(kind: Any, config: Mapping[str, Any], name: str) -> None:
    """Raise UserError for keys of another type than the constructor of `kind` has, and for ones that it lacks.
    Those that it does not know are refused in our own classes; diffusers', which come and go, it names itself."""
    if (called := config.get("_class_name")) != kind.__name__:
        raise UserError(f"{name} has _class_name = {called!r}; {kind.__name__} is needed: {ADVICE}")
    known = dict(list(signature(kind.__init__).parameters.items())[1:])
    if kind.__module__.partition(".")[0] in KNOWN[:3]:
        for key in config:
            if key not in known and key[0] != "_":
                raise UserError(f"{name} has an unknown key, {key}; known are {', '.join(known)}")
    for key, parameter in known.items():
        if key not in config:
            if parameter.default is Parameter.empty and parameter.kind is Parameter.POSITIONAL_OR_KEYWORD:
                raise UserError(f"{name} has no {key}; {ADVICE}")
        elif (wanted := _wrong_type(parameter, config[key])) is not None:
            raise UserError(f"{name} has {key} = {config[key]!r:.80}; {wanted} is needed: {ADVICE}")


def _wrong_type(parameter: Parameter, value: Any) -> str | None:
    """Say what a key must be instead of `value`; None if it may be that or anything. Some annotations of diffusers' are
    not true of their own defaults: what is of a default's type is right in any case."""
    annotation, default = parameter.annotation, parameter.default
    if isinstance(default, list | tuple):
        if not isinstance(value, list | tuple):
            return None if value is None and "None" in str(annotation) else "a list"
        known = {type(part) for part in default}
        known |= {int} if float in known else set()
        odd = [part for part in value if known and type(part) not in known and not isinstance(part, list | tuple)]
        return f"a list like {list(default)}" if odd else None
    if type(value) is type(default):
        return None
    called = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    if annotation is Parameter.empty and default is not None:
        called = type(default).__name__
    if called in _TYPES:
        wanted, types = _TYPES[called]
        return None if type(value) in types else wanted
    return None


def _build(kind: Any, config: Mapping[str, Any], headers: Mapping[str, Header], where: str) -> nn.Module:
    """Make the model without values. UserError where it has many more tensors than the files."""
    with _quiet(), torch.device("meta"), _bounded(headers, config, where):
        model: nn.Module = kind.from_config(dict(config))
    kept = model.state_dict()
    tables = sum(value.numel() * value.element_size() for name, value in model.named_buffers() if name not in kept)
    if tables > LARGEST_TABLES:
        raise UserError(f"{where}config.json asks for tables of {tables / 1e9:.1f} GB{_largest(config)}; {ADVICE}")
    return model


@contextmanager
def _bounded(headers: Mapping[str, Header], config: Mapping[str, Any], where: str) -> Iterator[None]:
    """Stop a build that registers many more parameters or modules than these files can be of."""
    left = {"parameters": 1000 + 2 * len(headers), "modules": 10_000 + 20 * len(headers)}

    def count(what: str) -> None:
        left[what] -= 1
        if left[what] < 0:
            more = f"asks for far more {what} than the {len(headers)} tensors beside it are of"
            raise UserError(f"{where}config.json {more}{_largest(config)}; {ADVICE}")

    with ExitStack() as stack:
        for register, what in (
            (hooks.register_module_parameter_registration_hook, "parameters"),
            (hooks.register_module_module_registration_hook, "modules"),
        ):
            handle = register(lambda module, name, value, what=what: count(what))  # type: ignore[misc]
            stack.callback(handle.remove)
        yield


def _culprit(kind: Any, config: Mapping[str, Any], headers: Mapping[str, Header], where: str) -> str:
    """Name the key without which, at its default, the model can be made; nothing if there is no such."""
    for key, parameter in signature(kind.__init__).parameters.items():
        if key in config and parameter.default is not Parameter.empty and config[key] != parameter.default:
            try:
                _build(kind, {**config, key: parameter.default}, headers, where)
            except Exception:
                continue  # another key is wrong
            return f": {key} = {config[key]!r:.80}"
    return ""


def _check_names(missing: list[str], surplus: list[str], kind: Any, where: str) -> None:
    called = f"{where.rstrip('/: ')}: weights of {kind.__name__}"
    if missing and surplus:
        what = f"{called} have another name: {missing[0]} is needed, and there is {surplus[0]}"
        raise UserError(f"{what} ({len(missing)} are missing, {len(surplus)} do not belong); {ADVICE}")
    for names, what in ((missing, "are missing"), (surplus, "do not belong")):
        if names:
            more = " ..." * (len(names) > 3)
            raise UserError(f"{called} {what} ({', '.join(names[:3])}{more}), as config.json makes it; {ADVICE}")


def _check_shape(
    name: str, there: tuple[int, ...], here: tuple[int, ...], config: Mapping[str, Any], where: str
) -> None:
    if there != here:
        keys = [f"{key} = {value}" for key, value in numbers_in(config) if value in set(here) - set(there)]
        hint = f" by {', '.join(keys[:3])}" if keys else ""
        turned = ": it is transposed" if len(there) > 1 and there == here[::-1] else ""
        raise UserError(
            f"{where}{name} is {list(there)}, and config.json makes it {list(here)}{hint}{turned}; {ADVICE}"
        )


def _largest(config: Mapping[str, Any]) -> str:
    numbers = sorted(numbers_in(config), key=lambda pair: -pair[1])[:1]
    return "".join(f": {key} = {value}" for key, value in numbers)


def _kind_of(value: torch.Tensor) -> str:
    return "a floating type" if value.is_floating_point() else "a whole-number type"


def _kind_of_header(header: Header) -> str:
    whole = header.dtype[0] in "IUB" and header.dtype not in FLOATS
    return "a floating type" if header.dtype in FLOATS else "a whole-number type" if whole else header.dtype


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what the libraries say of a config: it is said here in one line, or when the model is loaded."""
    levels, bars = (
        [library.get_verbosity() for library in (diffusers_logging, logging)],
        logging.is_progress_bar_enabled(),
    )
    diffusers_logging.set_verbosity_error()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with without_idle_words():
            yield
    finally:
        for library, level in zip((diffusers_logging, logging), levels, strict=True):
            library.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
