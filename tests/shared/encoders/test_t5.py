"""T5 from a tiny random model that transformers saved, against diffusers' CogVideoX pipeline."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import CogVideoXPipeline
from transformers import AutoTokenizer, T5Config, T5EncoderModel, T5Tokenizer, UMT5Config, UMT5EncoderModel

from shared.encoders import TextEncoder
from shared.encoders.cache import CachedText
from shared.encoders.t5 import T5Text
from shared.utils.errors import UserError
from shared.utils.rng import derive

PROMPTS = ["a red ball", "", "  a&amp;b  \n c", "ab " * 30]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As a CogVideoX pipeline has them: text_encoder/ and tokenizer/."""
    path = tmp_path_factory.mktemp("t5")
    words = ["▁", "▁a", "▁red", "▁ball", *"abcdefghijklmnopqrstuvwxyz&;"]
    vocabulary = [(token, 0.0) for token in ("<pad>", "</s>", "<unk>")] + [(word, -2.0) for word in words]
    T5Tokenizer(vocab=vocabulary, extra_ids=0).save_pretrained(path / "tokenizer")
    with torch.random.fork_rng():
        torch.manual_seed(derive(0, "test", "t5"))
        config = T5Config(vocab_size=40, d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=4)
        T5EncoderModel(config).save_pretrained(path / "text_encoder")
    return path


@pytest.fixture(scope="module")
def encoder(folder: Path) -> T5Text:
    return T5Text.from_pretrained(folder, max_length=16)


@torch.no_grad()
def test_embeddings_are_those_of_the_cogvideox_pipeline(folder: Path, encoder: T5Text) -> None:
    """Padding and all: nothing is masked and nothing cleaned."""
    model = T5EncoderModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    own = SimpleNamespace(text_encoder=model, tokenizer=tokenizer, _execution_device="cpu")
    expected = CogVideoXPipeline._get_t5_prompt_embeds(own, PROMPTS, max_sequence_length=16)
    with pytest.warns(UserWarning, match="61 tokens is cut to 16: 'ab ab"):
        found = encoder.encode(PROMPTS)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert found.shape == (4, 16, 16) and found.any(-1).all() and isinstance(encoder, TextEncoder)
    assert all(torch.equal(row, encoder.encode([text])[0]) for row, text in zip(found, PROMPTS[:3], strict=False))


def test_its_folder_is_the_librarys_own_and_a_cache_keeps_it(encoder: T5Text, tmp_path: Path) -> None:
    encoder.save_pretrained(tmp_path / "saved")
    own = T5EncoderModel.from_pretrained(tmp_path / "saved", dtype=torch.float32)
    assert all(torch.equal(weight, encoder.model.state_dict()[name]) for name, weight in own.state_dict().items())
    loaded = T5Text.from_pretrained(tmp_path / "saved")
    assert loaded.max_length == 16 and torch.equal(loaded.encode(PROMPTS[:3]), encoder.encode(PROMPTS[:3]))
    cached = CachedText(encoder, tmp_path / "cache")
    for _ in range(2):
        assert torch.equal(cached.encode(PROMPTS[:3]), encoder.encode(PROMPTS[:3]))


def test_what_is_no_t5_is_refused(folder: Path, tmp_path: Path) -> None:
    UMT5EncoderModel(UMT5Config(vocab_size=40, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)).save_pretrained(
        tmp_path / "text_encoder"
    )
    AutoTokenizer.from_pretrained(folder / "tokenizer").save_pretrained(tmp_path / "tokenizer")
    with pytest.raises(UserError, match="holds a model of type 'umt5', not 't5'"):
        T5Text.from_pretrained(tmp_path)
    (tmp_path / "text_encoder/model.safetensors").write_bytes(b"nothing")
    (tmp_path / "text_encoder/config.json").write_text((folder / "text_encoder/config.json").read_text())
    with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
        T5Text.from_pretrained(tmp_path)
