"""What every text encoder does, and the embedded one: words hashed to fixed random vectors; nothing to train."""

import difflib
import logging
import re
import warnings
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import ClassVar, Protocol, runtime_checkable

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from shared.utils.errors import UserError
from shared.utils.folder_check import CheckedModelMixin
from shared.utils.ranges import check_range
from shared.utils.rng import generator

MOST_WORDS = 20_000  # of a vocabulary; a larger one is an open one
SENTENCE_ENDS = (".", "!", "?", ";")
_told: set[str] = set()
_log = logging.getLogger(__name__)
_TOKEN = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")  # noqa: RUF001  both apostrophes occur in captions


@runtime_checkable
class TextEncoder(Protocol):
    """Prompts -> embeddings [B, max_length, dim], zeros after the last token (Wan pads so, and masks nothing).
    The empty text is one null token, never all zeros."""

    dim: int
    max_length: int

    def encode(self, prompts: list[str]) -> Tensor:
        """Embeddings, float [B, max_length, dim] on the encoder's device, deterministic."""


def tokens_of(text: str) -> list[str]:
    """Lower-case words, and every punctuation mark as a token of its own."""
    return _TOKEN.findall(text.lower())


@lru_cache(maxsize=65536)
def _random_vector(dim: int, *names: str) -> Tensor:
    """Draw the standard normal vector [dim] that belongs to `names`, the same on every machine; a real one, as it is
    kept, also where modules are built without values."""
    return torch.randn(dim, generator=generator(0, "hashed-words", *names), device="cpu")


def _unit(vectors: Tensor) -> Tensor:
    """Scale every vector to an RMS of 1."""
    return vectors / vectors.square().mean(-1, keepdim=True).sqrt()


def words_of(text: str) -> list[str]:
    """Tokens without the punctuation marks."""
    return [token for token in tokens_of(text) if token[0].isalnum()]


def tell_unknown(prompts: Iterable[str], vocabulary: Sequence[str] | None) -> None:
    """Log, once for each, which words of the prompts the model learnt in no caption, and the nearest that it did."""
    if not vocabulary:  # open, or of an encoder that no model has learnt with yet
        return
    unknown = {word for prompt in prompts for word in words_of(prompt)}.difference(vocabulary)
    if new := sorted(unknown - _told):
        _told.update(new)
        near = {word: difflib.get_close_matches(word, vocabulary, n=1, cutoff=0.7) for word in new}
        told = ", ".join(f"{word!r}" + (f" (is {near[word][0]!r} meant?)" if near[word] else "") for word in new)
        _log.warning("words that this model never learnt, and are noise to it: %s; see docs/puppets.md, Captions", told)


class HashedWords(CheckedModelMixin, ModelMixin, ConfigMixin):
    """Prompts -> [B, max_length, dim]: one vector of unit RMS per word, plus a small sinusoidal position.
    A word's vector mixes its own random vector with half of one for the pair (previous word, word), so that "red ball"
    differs from "red shirt" in "ball". With `context` it also has so much of the words around it, and of its sentence:
    then "left" tells who stands there, as tokens of a trained encoder do (docs/training.md, "What paid").
    The empty text is one null token, not zero: guidance has a key to read."""

    _keep_in_fp32_modules: ClassVar[list[str]] = ["null_token"]
    PAIR_WEIGHT, POSITION_SCALE, NEAR = 0.5, 0.2, 3

    @register_to_config
    def __init__(
        self, dim: int = 128, max_length: int = 64, vocabulary: list[str] | None = None, context: float = 0.0
    ) -> None:
        """`vocabulary`: words of the captions that the model beside it learnt; None: unknown. Others are told.
        `context`: weight, beside 1 of a word itself, of the `NEAR` words on either side and of its whole sentence."""
        super().__init__()
        if vocabulary is not None and not (
            isinstance(vocabulary, list) and all(isinstance(w, str) for w in vocabulary)
        ):
            raise UserError(f"vocabulary is {vocabulary!r:.80}; a list of words, or null, is needed")
        check_range("dim", dim, 1, 2**16)
        check_range("max_length", max_length, 1, 2**16)
        check_range("context", context, 0, 10, whole=False)
        self.dim, self.max_length, self.context = dim, max_length, context
        self.register_buffer("null_token", _random_vector(dim, "null").clone())
        self.null_token: Tensor

    def encode(self, prompts: list[str]) -> Tensor:
        """float32 [B, max_length, dim], zeros after the last token. Longer prompts are cut, with a warning."""
        tell_unknown(prompts, self.config.vocabulary)
        out = torch.zeros(len(prompts), self.max_length, self.dim)
        for row, prompt in zip(out, prompts, strict=True):
            words = tokens_of(prompt)
            if cut := " ".join(words[self.max_length :]):
                said = f"a prompt of {len(words)} tokens is cut to {self.max_length}; lost: {cut!r}"
                warnings.warn(said, stacklevel=2)
            words = words[: self.max_length]
            row[: max(1, len(words))] = self._embed(words) if words else self.null_token.float().cpu()
        return out.to(self.null_token.device)

    def learn(self, texts: Iterable[str] | None) -> None:
        """Add the words of training captions to the vocabulary; None: of captions that are not known, so all may be."""
        words = None if texts is None else {word for text in texts for word in words_of(text)}
        known = self.config.vocabulary
        total = None if words is None or known is None else words | set(known)
        closed = total is not None and len(total) <= MOST_WORDS
        self.register_to_config(vocabulary=sorted(total) if total is not None and closed else None)

    def _embed(self, words: list[str]) -> Tensor:
        """[len(words), dim] for at least one word."""
        pairs = [_random_vector(self.dim, "pair", *pair) for pair in zip(["", *words], words, strict=False)]
        own = [_random_vector(self.dim, "word", word) for word in words]
        mixed = _unit(torch.stack(own) + self.PAIR_WEIGHT * torch.stack(pairs))
        if self.context:
            numbers = torch.arange(len(words))
            sentence = torch.tensor([0, *(word in SENTENCE_ENDS for word in words[:-1])]).cumsum(0)
            same = sentence[:, None] == sentence
            near = same & ((numbers[:, None] - numbers).abs() <= self.NEAR)
            around = [_unit(seen.float() @ mixed) for seen in (near, same)]
            mixed = _unit(mixed + self.context * sum(around))
        # sinusoids of unit RMS with periods from 2 pi to 2 pi 1000 tokens
        angles = torch.arange(len(words))[:, None] * 1000 ** -torch.linspace(0, 1, (self.dim + 1) // 2)
        positions = torch.cat([angles.sin(), angles.cos()], -1)[:, : self.dim] * 2**0.5
        return mixed + self.POSITION_SCALE * positions
