"""The wheels that `make gpu` needs: the versions that are tested here, named where they are missing."""

from __future__ import annotations

import contextlib
import importlib.metadata
import re
from pathlib import Path

import pytest

from ccl.analysis import gpu_wheels
from ccl.analysis.gpu_wheels import NEEDED, OF_PART, missing

ROOT = Path(__file__).parents[3]
PINS = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M))
WANTED = NEEDED | {module: asked for part in OF_PART.values() for module, asked in part.items()}
PINNED = [asked.split("==") for asked in WANTED.values() if "==" in asked]


def test_pins_are_those_of_the_constraints_and_of_this_environment() -> None:
    assert len(PINNED) > 15
    pinned_here = [(name, version) for name, version in PINNED if name in PINS]
    assert len(pinned_here) > 5
    for name, version in pinned_here:
        assert version == PINS[name], name
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # xformers, without CUDA
            assert importlib.metadata.version(name) == version


def test_a_wheel_comes_with_what_it_needs_itself() -> None:
    """What such a machine has besides is in its torch, transformers and the like."""
    usual = {"numpy", "pillow", "filelock", "regex", "requests", "packaging", "zipp", "jinja2", "pyyaml"}
    known = {re.split(r"[=<>]", asked)[0] for asked in WANTED.values()} | usual
    for name, _ in PINNED:
        try:
            asked = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:  # xformers, which a machine without CUDA has no use for
            continue
        for one in asked:
            needed, _, condition = one.partition(";")
            needs = re.split(r"[ =<>!~(\[]", needed.strip())[0].lower().replace("_", "-")
            assert "extra" in condition or needs in known, f"{name} needs {needs}"


def test_the_page_names_them() -> None:
    page = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    assert [asked for asked in ("==".join(pin) for pin in PINNED) if asked not in page] == []


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing() == missing("plan") == missing("toy") == missing("sampling") == []
    monkeypatch.setattr(gpu_wheels, "find_spec", lambda name: None if name in ("diffusers", "av") else object())
    assert (missing(), missing("toy")) == (["diffusers==0.42.1"], ["av==18.1.0"])
