"""What lies in a folder or under a hub id, and its copy on this machine; one clear error where there is nothing."""

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from shared.utils.errors import UserError
from shared.utils.files import read_json

#: What a `from_pretrained` takes about the hub.
OPTIONS = ("cache_dir", "revision", "token", "local_files_only")
#: What is downloaded: nothing that would be unpickled or run; templates of chats are filled in a sandbox of Jinja's.
SUFFIXES = (".json", ".safetensors", ".model", ".txt", ".jinja")
_HUB_ID = re.compile(r"(?!.{97})[\w-][\w.-]*(/[\w-][\w.-]*)?")  # the hub allows 96 characters


class NotFound(UserError):
    """A folder or hub id does not hold what is looked for."""


def hub_options(options: dict[str, Any]) -> dict[str, Any]:
    """Take those of `OPTIONS` out of the `options` of a `from_pretrained`."""
    return {name: options.pop(name) for name in OPTIONS if name in options}


def find_files(source: str | Path, what: str, names: Iterable[str], wanted: str, **options: Any) -> dict[str, Path]:
    """Those of the files `names` that a folder or a hub id has: {name: file on this machine}, in their order.
    Without the net, the hub is what the cache holds. `options`: see `OPTIONS`. Raises `NotFound` if there is none."""
    names, folder = list(dict.fromkeys(names)), Path(source)
    if _is_folder(source):
        found, reason = {name: folder / name for name in names if (folder / name).is_file()}, ""
    elif _HUB_ID.fullmatch(str(source)):
        found, reason = _on_the_hub(str(source), names, options)
    else:
        raise NotFound(f"{source}: {_no_folder(folder)}; {wanted}")
    if not found:
        raise NotFound(f"{source}: no {what} (no {' or '.join(names)} there{reason and '; '}{reason}); {wanted}")
    return found


def find_configs(
    source: str | Path, what: str, places: Iterable[str], wanted: str, **options: Any
) -> dict[str, dict[str, Any]]:
    """Read config.json in those of `places` (subfolders; "" is the source) that have one. Errors as `find_files`."""
    files = find_files(source, what, (f"{place}/config.json".lstrip("/") for place in places), wanted, **options)
    return {name.rpartition("/")[0]: read_json(file) for name, file in files.items()}


def local_folder(source: str | Path, places: Iterable[str] = (), **options: Any) -> Path:
    """Find the folder itself, or copy a hub id's subfolders `places`, "" its own files, none all. Raises UserError."""
    if _is_folder(source):
        return Path(source)
    if not _HUB_ID.fullmatch(str(source)):
        raise NotFound(f"{source}: {_no_folder(Path(source))}; a folder, or a hub id, is needed")
    from huggingface_hub import snapshot_download

    places = list(places)
    patterns = [f"{place}/*{suffix}".lstrip("/") for place in places or [""] for suffix in SUFFIXES]
    ignored = [f"*/*{suffix}" for suffix in SUFFIXES] if places == [""] else None
    try:
        return Path(snapshot_download(str(source), allow_patterns=patterns, ignore_patterns=ignored, **options))
    except (OSError, ValueError) as error:
        reason = first_line(error)
        raise UserError(f"{source}: cannot be downloaded ({reason}); copy its folder and name that") from None


def _is_folder(source: str | Path) -> bool:
    try:
        return Path(source).is_dir()
    except OSError:  # a name too long for any
        return False


def _no_folder(path: Path) -> str:
    with suppress(OSError):
        if path.is_file():
            return "a file, and no folder"
    return "no such folder"


def first_line(error: Exception) -> str:
    """Quote what a library says first; its advice, which follows, is for those who call it."""
    return str(error).strip().partition("\n")[0]


def _on_the_hub(source: str, names: list[str], options: dict[str, Any]) -> tuple[dict[str, Path], str]:
    """As `find_files`, and why there is nothing."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    found, reason = {}, ""
    for name in names:
        try:
            found[name] = Path(hf_hub_download(source, name, **options))
        except LocalEntryNotFoundError:
            reason = "no such folder, and the hub cannot be reached: the net is down, or HF_HUB_OFFLINE is set"
        except EntryNotFoundError:
            continue
        except (OSError, ValueError) as error:  # the hub's own errors among them: no such name, no access
            return found, f"no such folder, and the hub says: {first_line(error)}"
    return found, reason
