"""What is written for others: modes by the umask, no place of the machine, the same bytes for the same content."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from shared.utils.files import replacing, replacing_folder, write_json
from shared.utils.portable import new_file_mode, portable, settle


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def mode(path: Path) -> str:
    return f"{path.stat().st_mode & 0o777:o}"


def test_paths_lose_the_folders_of_the_machine() -> None:
    assert portable(Path("/home/me/data/clips")) == "data/clips" and portable("/clips") == "clips"
    for same in ("data/clips", "../clips", "log-mel", "a prompt / of words", "https://example.org/a", "", "/", "//"):
        assert portable(same) == same
    assert portable("wav2vec2:/home/me/models/base") == "wav2vec2:models/base"
    assert portable("my.codecs:Blur@/home/me/models/blur") == "my.codecs:Blur@models/blur"
    assert portable({"a": ["/home/me/x/y"], "b": 3, "c": None}) == {"a": ["x/y"], "b": 3, "c": None}


@pytest.mark.usefixtures("umask")
def test_written_files_have_the_mode_of_others(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.safetensors") as part:
        save_file({"a": torch.ones(1)}, part)
    with replacing_folder(tmp_path / "folder") as partial:
        (partial / "inner").mkdir()
        save_file({"a": torch.ones(1)}, partial / "inner/b.safetensors")
    write_json(tmp_path / "c.json", {})
    for name in ("a.safetensors", "folder/inner/b.safetensors", "c.json"):
        assert mode(tmp_path / name) == "640", name
    assert mode(tmp_path / "folder/inner") == "750"
    assert new_file_mode(tmp_path / "new") == 0o640 and not (tmp_path / "new").exists()


def test_a_configuration_does_not_say_where_its_model_was(tmp_path: Path) -> None:
    for about in (
        {"_name_or_path": "/home/me/x", "b": 1},
        {"B": 1, "_name_or_path": '/home/"me"/x'},
        {"_name_or_path": ""},
    ):
        (tmp_path / "config.json").write_text(json.dumps(about, indent=2))
        settle(tmp_path)
        text = (tmp_path / "config.json").read_text()
        assert json.loads(text) == {name: value for name, value in about.items() if name != "_name_or_path"}
        assert text == json.dumps(json.loads(text), indent=2) or text == "{\n}"


def test_metadata_have_an_order(tmp_path: Path) -> None:
    """The library itself writes them in that of a hash table, which differs between processes."""
    file, about = tmp_path / "a.safetensors", {f"key{i}": f'"{i}" é\n' for i in range(9)}
    tensors = {"b": torch.ones(2), "a": torch.zeros(3)}
    for order in (about, dict(reversed(about.items()))):
        save_file(tensors, file, metadata=order)
        settle(tmp_path)
        with safe_open(file, "pt") as opened:
            assert opened.metadata() == about and torch.equal(opened.get_tensor("b"), tensors["b"])
        content = file.read_bytes()
        assert list(json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]) == sorted(about)


MAKE = """
import sys
from pathlib import Path
import numpy as np, torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel
from tokenizers import Tokenizer, models, processors
from ccl.pipeline import CCLPipeline
from shared.checkpoint.folder import load_checkpoint, save_checkpoint
from shared.checkpoint.lora import save_lora, add_lora
from shared.codecs import LinearAudioCodec, LinearVideoCodec
from shared.codecs.wan import WanVideoCodec
from shared.data.media_write import write_audio, write_video
from shared.data.shard_benchmark import make_shards
from shared.encoders import HashedWords
from shared.encoders.cache import CachedText
from shared.encoders.umt5 import UMT5Text
from shared.evaluation.figures import ClipFigure
from tests.helpers.small import pipeline, transformer
from types import SimpleNamespace

out = Path(sys.argv[1])
LinearVideoCodec(latent_channels=4).save_pretrained(out / "codec")
pipe = pipeline(transformer())
pipe.register_modules(video_codec=LinearVideoCodec.from_pretrained(out / "codec"))
save_checkpoint(pipe, out / "checkpoint", "# card")
save_checkpoint(load_checkpoint(CCLPipeline, out / "checkpoint"), out / "again", "# card")
lora = SimpleNamespace(rank=2, alpha=None, dropout=0.0, targets=["attention"])
add_lora(pipe.transformer, None, lora, 0)
save_lora({f"transformer.{k}": v for k, v in pipe.transformer.state_dict().items()}, out / "lora", "# card", lora)
torch.manual_seed(0)
small = {"base_dim": 4, "z_dim": 2, "num_res_blocks": 1, "latents_mean": [0.0] * 2, "latents_std": [1.0] * 2}
AutoencoderKLWan(**small).save_pretrained(out / "wan")
WanVideoCodec.from_pretrained(out / "wan").save_pretrained(out / "wan_again")
words = Tokenizer(models.WordLevel({"a": 0, "</s>": 1, "<unk>": 2}, unk_token="<unk>"))
words.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>").save_pretrained(out / "t5")
t5 = UMT5Config(vocab_size=40, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
UMT5EncoderModel(t5).save_pretrained(out / "t5")
UMT5Text.from_pretrained(out / "t5").save_pretrained(out / "t5_again")
CachedText(HashedWords(dim=8, max_length=4), out / "texts").encode(["a bell", ""])
(out / "shards").mkdir()
make_shards(out / "shards", 4, per_shard=2)
noise = np.random.default_rng(0)
frames = noise.integers(0, 255, (8, 32, 32, 3)).astype(np.uint8)
sound = noise.normal(0, 0.1, (1, 16000)).astype(np.float32)
write_video(out / "clip.mp4", frames, 8, sound, 16000)
write_audio(out / "clip.wav", sound, 16000)
ClipFigure.of_file(out / "clip.mp4", 4).save(out / "clip.png")
ClipFigure.of_file(out / "clip.mp4", 4).save(out / "clip.gif")
"""


@pytest.mark.slow  # two processes that import everything
def test_the_same_content_is_the_same_bytes_and_says_nothing_of_the_machine(tmp_path: Path) -> None:
    """Two processes make the same, in two folders, with strings hashed differently."""
    made = []
    for seed, name in enumerate(("one", "two")):
        folder = tmp_path / name
        folder.mkdir()
        code = f"import os; os.umask(0o027)\n{MAKE}"
        environment = os.environ | {"PYTHONHASHSEED": str(seed), "PYTHONPATH": os.pathsep.join(sys.path)}
        run = subprocess.run([sys.executable, "-c", code, str(folder)], env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr[-2000:]
        made.append({file.relative_to(folder): file for file in folder.rglob("*") if file.is_file()})
    assert made[0].keys() == made[1].keys() and len(made[0]) > 30
    theirs = {
        Path(name) for name in ("wan/config.json", "wan/diffusion_pytorch_model.safetensors", "t5/model.safetensors")
    }
    for name, file in made[0].items():
        content = file.read_bytes()
        assert content == made[1][name].read_bytes(), name
        assert bytes(tmp_path) not in content and bytes(Path.home()) + b"/" not in content, name
        assert name in theirs or mode(file) == "640", name
