"""UMT5 from a tiny random model that transformers saved, against diffusers' Wan pipeline."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline, WanPipeline
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from transformers import AutoTokenizer, BertConfig, T5Tokenizer, UMT5Config, UMT5EncoderModel

from shared.checkpoint.folder import load_checkpoint, save_checkpoint
from shared.encoders import TextEncoder
from shared.encoders.umt5 import UMT5Text, clean
from shared.utils.errors import UserError
from shared.utils.rng import derive

PROMPTS = ["a red ball", "", "  a&nbsp;&amp;lt;b  \n schÃ¶n  ", "ab " * 30]


class Reader(DiffusionPipeline):
    """The least pipeline that holds a text encoder."""

    def __init__(self, text_encoder: UMT5Text) -> None:
        super().__init__()
        self.register_modules(text_encoder=text_encoder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As a Wan pipeline has them: text_encoder/ and tokenizer/."""
    path = tmp_path_factory.mktemp("umt5")
    words = ["▁", "▁a", "▁red", "▁ball", *"abcdefghijklmnopqrstuvwxyz<ö"]
    vocabulary = [(token, 0.0) for token in ("<pad>", "</s>", "<unk>")] + [(word, -2.0) for word in words]
    T5Tokenizer(vocab=vocabulary, extra_ids=0).save_pretrained(path / "tokenizer")
    config = UMT5Config(vocab_size=40, d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=4)
    with torch.random.fork_rng():
        torch.manual_seed(derive(0, "test", "umt5"))
        UMT5EncoderModel(config).save_pretrained(path / "text_encoder")
    return path


@pytest.fixture(scope="module")
def encoder(folder: Path) -> UMT5Text:
    return UMT5Text.from_pretrained(folder, max_length=16)


@torch.no_grad()
def test_embeddings_are_those_of_the_wan_pipeline(folder: Path, encoder: UMT5Text) -> None:
    model = UMT5EncoderModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    pipeline = WanPipeline(tokenizer=tokenizer, text_encoder=model, vae=None, scheduler=None)
    expected = pipeline._get_t5_prompt_embeds(PROMPTS, max_sequence_length=16)
    with pytest.warns(UserWarning, match="61 tokens is cut to 16: 'ab ab"):
        found = encoder.encode(PROMPTS)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert found.shape == (4, 16, 16) and isinstance(encoder, TextEncoder)
    lengths = found.any(-1).sum(1).tolist()
    assert lengths[:2] == [4, 1] and lengths[3] == 16  # the empty text is its end token
    assert (found[1, 1:] == 0).all()


def test_cleaning_is_wans() -> None:
    assert [clean(prompt) for prompt in PROMPTS] == [prompt_clean(prompt) for prompt in PROMPTS]
    assert clean(PROMPTS[2]) == "a <b schön"


def test_a_prompt_does_not_depend_on_its_neighbours(encoder: UMT5Text) -> None:
    together = encoder.encode(PROMPTS[:3])
    assert all(torch.equal(row, encoder.encode([prompt])[0]) for row, prompt in zip(together, PROMPTS, strict=False))
    assert encoder.encode([]).shape == (0, 16, 16)
    assert not encoder.train().model.training


def test_its_folder_is_the_librarys_own(folder: Path, encoder: UMT5Text, tmp_path: Path) -> None:
    encoder.save_pretrained(tmp_path)
    own = UMT5EncoderModel.from_pretrained(tmp_path, dtype=torch.float32)
    first = UMT5EncoderModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    assert all(torch.equal(weight, first.state_dict()[name]) for name, weight in own.state_dict().items())
    assert AutoTokenizer.from_pretrained(tmp_path)("a red ball").input_ids == encoder.tokenizer("a red ball").input_ids
    loaded = UMT5Text.from_pretrained(tmp_path)
    assert loaded.max_length == 16 and loaded.settings == encoder.settings
    assert torch.equal(loaded.encode(PROMPTS[:3]), encoder.encode(PROMPTS[:3]))
    save_checkpoint(Reader(encoder), tmp_path / "checkpoint", "a card")
    half = load_checkpoint(Reader, tmp_path / "checkpoint", torch.bfloat16).text_encoder
    assert half.dtype == torch.bfloat16 and half.encode(["a"]).dtype == torch.float32
    torch.testing.assert_close(half.encode(["a"]), encoder.encode(["a"]), atol=0.1, rtol=0.1)


def test_full_size(encoder: UMT5Text) -> None:
    """UMT5-XXL."""
    config = UMT5Config(vocab_size=256384, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64)
    with torch.device("meta"):
        model = UMT5EncoderModel(config)
    full = UMT5Text(model, encoder.tokenizer)
    assert (full.dim, full.max_length) == (4096, 512)
    assert full.num_parameters() / 1e9 == pytest.approx(5.68, abs=0.01)
    encoder.tokenizer.model_max_length = 16  # as it was: the tokenizer is the fixture's


def test_what_is_no_umt5_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing: no such folder"):
        UMT5Text.from_pretrained(tmp_path / "missing")
    with pytest.raises(UserError, match=r"nobody/nothing: no UMT5 encoder \(no config\.json or text_encoder/"):
        UMT5Text.from_pretrained("nobody/nothing", cache_dir=tmp_path / "hub")
    with pytest.raises(UserError, match=r"no tokenizer \(no tokenizer\.json or spiece\.model or tokenizer/"):
        UMT5Text.from_pretrained(folder / "text_encoder")
    shutil.copytree(folder, tmp_path / "wan")
    config = tmp_path / "wan/text_encoder/config.json"
    told = json.loads(config.read_text())
    config.write_text(json.dumps(told | {"num_layers": 3}))
    with pytest.raises(UserError, match=r"wan: weights of UMT5EncoderModel are missing \(encoder\.block\.2"):
        UMT5Text.from_pretrained(tmp_path / "wan")
    BertConfig().save_pretrained(tmp_path / "wan/text_encoder")
    with pytest.raises(UserError, match="wan: holds a model of type 'bert', not 'umt5'"):
        UMT5Text.from_pretrained(tmp_path / "wan")
    config.write_text(json.dumps(told))
    weights = tmp_path / "wan/text_encoder/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"wan: model\.safetensors is damaged"):
        UMT5Text.from_pretrained(tmp_path / "wan")
    model = UMT5EncoderModel.from_pretrained(folder / "text_encoder")
    model.config.vocab_size = 20
    with pytest.raises(UserError, match="the tokenizer has 35 tokens, the model 20"):
        UMT5Text(model, AutoTokenizer.from_pretrained(folder / "tokenizer"))
