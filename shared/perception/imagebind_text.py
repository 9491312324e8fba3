"""Texts as ImageBind reads them: CLIP's tokens, from a folder of transformers'."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import ftfy
from transformers import CLIPTokenizer

from shared.perception.imagebind import Sizes
from shared.utils.errors import UserError
from shared.utils.hub import first_line
from shared.utils.progress import quiet_loading

WANTED = "a folder of transformers with the tokenizer of CLIP is needed"
FILES = (("tokenizer.json",), ("vocab.json", "merges.txt"))
"""What a tokenizer is read from, either."""


class TextTokenizer:
    """Numbers of the tokens of a text, cut to as many as ImageBind has positions for; the one that ends it is kept."""

    def __init__(self, tokenizer: Any, most: int) -> None:
        self.tokenizer, self.most = tokenizer, most

    @classmethod
    def load(cls, folder: Path, sizes: Sizes) -> TextTokenizer:
        """Load the tokenizer in a folder, whatever else is there. UserError: none there, or not CLIP's."""
        if not any(all((folder / name).is_file() for name in names) for names in FILES):
            raise UserError(f"{folder}: no tokenizer.json, and no vocab.json with merges.txt; {WANTED}")
        try:
            with quiet_loading():
                tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # what tokenizers raises has no class of its own
            raise UserError(f"{folder}: its tokenizer cannot be read ({first_line(error)}); {WANTED}") from error
        ends, wanted = (tokenizer.bos_token_id, tokenizer.eos_token_id), (sizes.words - 2, sizes.words - 1)
        if ends != wanted:
            raise UserError(f"{folder}: its tokenizer begins and ends a text with {ends}, not {wanted}; {WANTED}")
        return cls(tokenizer, sizes.tokens)

    def __call__(self, text: str) -> tuple[list[int], bool]:
        """Numbers of a text's tokens, and whether it was cut. Broken letters and HTML are mended, as published."""
        clean = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
        numbers = self.tokenizer(clean, verbose=False).input_ids
        cut = len(numbers) > self.most
        return [*numbers[: self.most - 1], numbers[-1]] if cut else numbers, cut
