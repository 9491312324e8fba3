"""Numbers of texts for ImageBind: cut, with their end kept, by CLIP's own tokenizer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from feature_models import save_clip
from small_imagebind import SMALL

from shared.perception.imagebind import Sizes
from shared.perception.imagebind_text import TextTokenizer
from shared.utils.errors import UserError


def test_texts_are_mended_and_cut(tmp_path: Path) -> None:
    tokenizer, start, end = TextTokenizer.load(save_clip(tmp_path), SMALL), SMALL.words - 2, SMALL.words - 1
    numbers, cut = tokenizer("a ball")
    assert (numbers[0], numbers[-1], len(numbers), cut) == (start, end, 7, False)
    assert tokenizer(" A &amp;amp; b ") == tokenizer("a & b") != tokenizer("a b")
    most = SMALL.tokens - 2
    assert tokenizer("x" * most)[1] is False
    long, cut = tokenizer("y" * most + "x")
    assert cut and len(long) == SMALL.tokens and long[-1] == end and len(set(long[1:-1])) == 1


def test_the_tokenizer_is_that_of_clip(tmp_path: Path) -> None:
    save_clip(tmp_path / "clip")
    with pytest.raises(UserError, match=re.escape("text with (188, 189), not (49406, 49407); a folder of")):
        TextTokenizer.load(tmp_path / "clip", Sizes())
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match=r"none: no tokenizer\.json, and no vocab\.json with merges\.txt; a folder of"):
        TextTokenizer.load(tmp_path / "none", SMALL)
    (tmp_path / "clip/tokenizer.json").write_text("{")
    with pytest.raises(UserError, match=r"clip: its tokenizer cannot be read \(") as error:
        TextTokenizer.load(tmp_path / "clip", SMALL)
    assert "\n" not in str(error.value)
