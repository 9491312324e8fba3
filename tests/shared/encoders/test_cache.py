"""The cache of text embeddings: hits without the encoder, keys, damage, several processes."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from shared.encoders import HashedWords, TextEncoder
from shared.encoders.cache import CachedText
from shared.utils.errors import UserError
from shared.utils.fingerprint import fingerprint

TEXTS = ["a red ball", "", "a red ball", "a bell rings"]


class Counting(HashedWords):
    """HashedWords, with a list of what it was asked for; `coarse` rounds as an encoder in bfloat16 would."""

    def __init__(self, dim: int = 8, max_length: int = 6, coarse: bool = False) -> None:
        super().__init__(dim, max_length)
        self.asked: list[str] = []
        self.coarse = coarse

    def encode(self, prompts: list[str]) -> Tensor:
        self.asked += prompts
        found = super().encode([prompt.encode(errors="replace").decode() for prompt in prompts])
        return found.bfloat16().float() if self.coarse else found


@pytest.mark.parametrize("coarse", [False, True])
def test_a_hit_runs_no_encoder_and_equals_it_to_the_bit(tmp_path: Path, coarse: bool) -> None:
    encoder = Counting(coarse=coarse)
    cached = CachedText(encoder, tmp_path)
    first = cached.encode(TEXTS)
    assert encoder.asked == ["a red ball", "", "a bell rings"]
    fresh = Counting(coarse=coarse)
    assert torch.equal(CachedText(fresh, tmp_path).encode(TEXTS), first) and not fresh.asked
    assert torch.equal(first, fresh.encode(TEXTS))
    assert isinstance(cached, TextEncoder) and (cached.dim, cached.max_length) == (8, 6)
    assert cached.encode([]).shape == (0, 6, 8)
    dtypes = [safe_open(path, "pt").get_tensor("embedding").dtype for path in cached.folder.iterdir()]
    assert dtypes == 3 * [torch.bfloat16 if coarse else torch.float32]


def test_the_key_is_what_decides_an_embedding(tmp_path: Path) -> None:
    encoder, other = Counting(), Counting()
    other.null_token += 1
    kinds = [encoder, other, Counting(max_length=7), HashedWords(8, 6), Counting().bfloat16()]
    with_settings = Counting()
    with_settings.settings = "another tokenizer"
    assert len({fingerprint(kind) for kind in [*kinds, with_settings]}) == 6
    assert fingerprint(Counting()) == fingerprint(encoder)
    CachedText(encoder, tmp_path).encode(TEXTS)
    assert torch.equal(CachedText(other, tmp_path).encode([""]), other.encode([""]))


def test_damage_is_mended(tmp_path: Path) -> None:
    encoder = Counting()
    cached = CachedText(encoder, tmp_path)
    expected = cached.encode(TEXTS)
    for path, content in zip(
        sorted(cached.folder.iterdir()), (b"", b"x" * 40, b"\x08" + b"\0" * 7 + b"{}      "), strict=True
    ):
        path.write_bytes(content)
    encoder.asked.clear()
    assert torch.equal(cached.encode(TEXTS), expected) and len(encoder.asked) == 3
    encoder.asked.clear()
    assert torch.equal(cached.encode(TEXTS), expected) and not encoder.asked
    half = "half a pair \ud83d"  # JSON can hold it
    assert torch.equal(cached.encode([half]), encoder.encode([half]))


def _fill(folder: Path, start: object, texts: list[str]) -> None:
    start.wait()  # type: ignore[attr-defined]
    found = CachedText(HashedWords(8, 6), folder).encode(texts)
    assert torch.equal(found, HashedWords(8, 6).encode(texts))


def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")  # a fresh interpreter would take seconds to import torch
    start, texts = context.Barrier(2), [f"text {i}" for i in range(100)]
    workers = [context.Process(target=_fill, args=(tmp_path, start, texts)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    encoder = HashedWords(8, 6)
    files = list(CachedText(encoder, tmp_path).folder.iterdir())
    assert len(files) == 100 and {path.suffix for path in files} == {".safetensors"}


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"text cache .*file: cannot be made \(.*\); give a folder"):
        CachedText(HashedWords(8, 6), tmp_path / "file")
    cached = CachedText(HashedWords(8, 6), tmp_path / "cache")
    cached.folder.rmdir()
    with pytest.raises(UserError, match="cannot be written"):
        cached.encode(["a"])
