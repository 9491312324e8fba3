"""Metrics by name: the nearest name, weights and settings that belong to what is asked for."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from shared.evaluation.metrics.registry import METRICS, check_weights, named, read_settings
from shared.utils.errors import UserError


@pytest.mark.parametrize("name", METRICS)
def test_every_entry_is_there(name: str) -> None:
    entry = METRICS[name]
    kind = getattr(import_module(entry.module), entry.kind)
    assert {"of", "clip", "preprocessing", "fingerprint"} <= set(dir(kind)) and entry.about
    assert getattr(kind, "over_sets", False) == entry.over_sets == ("reference" in kind.needs) and kind.name == name


def test_the_registry_imports_no_metric() -> None:
    code = (
        "import sys, shared.evaluation.metrics.registry; print('torch' in sys.modules, 'temp_c' in str([*sys.modules]))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False False"


def test_names() -> None:
    assert named("temp_c, text_c,temp_c") == ("temp_c", "text_c") and named(None) is None
    with pytest.raises(ValueError, match=re.escape("temp_d: no such metric; the nearest is temp_c, all are temp_c")):
        named("temp_d")


def test_weights(tmp_path: Path) -> None:
    check_weights(["temp_c", "text_c"], {"clip": tmp_path})
    for weights, reason in (
        ({}, "--metrics temp_c: needs weights; give --weights clip=PATH"),
        ({"clip": tmp_path / "nowhere"}, "there is no such file or folder"),
        ({"clip": tmp_path, "clap": tmp_path}, "--weights clap: no metric that is asked for needs it; needed are clip"),
    ):
        with pytest.raises(UserError, match=re.escape(reason)):
            check_weights(["temp_c"], weights)


def test_settings() -> None:
    assert read_settings(["temp_c.fps=4"], ["temp_c", "text_c"]) == {"temp_c": {"fps": 4.0}, "text_c": {"fps": 2.0}}
    assert METRICS["temp_c"].settings["fps"] == 8.0
    for word, reason in (
        ("temp_c.fsp=4", "METRIC.NAME=VALUE is needed; there are temp_c.fps"),
        ("text_c.fps=4", "METRIC.NAME=VALUE is needed; there are temp_c.fps"),
        ("temp_c.fps=0", "a number above 0 is needed"),
        ("temp_c.fps=nan", "a number above 0 is needed"),
        ("temp_c.fps", "a number above 0 is needed"),
    ):
        with pytest.raises(UserError, match=re.escape(reason)):
            read_settings([word], ["temp_c"])


def test_settings_that_are_yes_or_no() -> None:
    for word, wanted in (("1", True), ("0", False)):
        settings = read_settings([f"imagebind_av.published={word}", "imagebind_av.audio_clips=7"], ["imagebind_av"])
        assert settings == {"imagebind_av": {"video_clips": 5, "audio_clips": 7, "published": wanted}}
        assert settings["imagebind_av"]["published"] is wanted
    with pytest.raises(UserError, match=re.escape("--set imagebind_av.published=2: 1 is needed for yes, or 0 for no")):
        read_settings(["imagebind_av.published=2"], ["imagebind_av"])
