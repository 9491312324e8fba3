"""A class in a text: what names one, and what happens where it is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.utils.classes import NamedClass, load_class
from shared.utils.errors import UserError


def test_only_a_class_with_its_source_is_one() -> None:
    named = NamedClass.parse("my_codecs.blur:Blur@models/blur v2")
    assert named == NamedClass("my_codecs.blur:Blur", "models/blur v2") and named.package == "my_codecs"
    for text in ("models/blur", "log-mel", "wav2vec2:facebook/base", "my_codecs.blur:Blur", "my codecs:Blur@x", ""):
        assert NamedClass.parse(text) is None


def test_the_class_is_imported_when_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_classes.py").write_text("class Blur: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_class("own_classes:Blur").__name__ == "Blur"
    with pytest.raises(UserError, match="the module has no Sharp"):
        load_class("own_classes:Sharp")
    with pytest.raises(UserError, match="install its package"):
        load_class("classes_of_nobody:Blur")
