"""A codec in a package outside this repository, as docs/codecs.md shows it: found, loaded, saved, and never unasked."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from ccl.pipeline import CCLPipeline
from ccl.transformer import DualStreamTransformer
from scripts.encode import EncodeOptions, component_sources
from shared.checkpoint.folder import INDEX, check_checkpoint, check_saveable, load_checkpoint, save_checkpoint
from shared.checkpoint.loading import SamplingOptions, load_model
from shared.checkpoint.registry import find_component, load_component
from shared.codecs import LinearAudioCodec, VideoCodec
from shared.encoders import HashedWords, audio_features
from shared.training.inputs import component_source, trusted_packages
from shared.utils.cli import parse
from shared.utils.config import TrainConfig
from shared.utils.errors import UserError

ROOT = Path(__file__).parents[3]
NAME = "my_codecs.blur:BlurCodec"
SOUND = """
import torch
from shared.encoders.audio import FrameFeatures
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin

class Loudness(FrameFeatures, ModelMixin, ConfigMixin):
    sample_rate, layers, dim = 8000, 1, 1

    def __init__(self):
        super().__init__()
        self.register_buffer("unit", torch.ones(1))

    def _frame_features(self, audio, frames, fps):
        return audio.unflatten(-1, (frames, -1)).square().mean(-1).sqrt().mT[:, :, None]
"""


def forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_codecs"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds my_codecs: the code of the documentation, and one for sound."""
    code = re.search(r"## Your own codec.*?```python\n(.*?)```", (ROOT / "docs/codecs.md").read_text("utf-8"), re.S)
    assert code is not None
    folder = tmp_path_factory.mktemp("package")
    (folder / "my_codecs").mkdir()
    (folder / "my_codecs/blur.py").write_text(code[1])
    (folder / "my_codecs/sound.py").write_text(SOUND)
    return folder


@pytest.fixture(autouse=True)
def on_the_path(package: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(package)
    forget()
    yield
    forget()


@pytest.fixture
def codec(tmp_path: Path) -> Path:
    from my_codecs.blur import BlurCodec

    BlurCodec().save_pretrained(tmp_path / "blur")
    forget()
    return tmp_path / "blur"


@pytest.fixture
def checkpoint(codec: Path, tmp_path: Path) -> Path:
    """A joint model with that codec."""
    stream = {"num_attention_heads": 1, "attention_head_dim": 12, "num_layers": 1, "ffn_dim": 16, "text_dim": 8}
    streams = {"video": stream | {"in_channels": 3}, "audio": stream | {"in_channels": 4}}
    model = DualStreamTransformer(**streams, cca_heads=1, cca_head_dim=12, context_tokens=2)
    own = load_component(find_component("video_codec", f"{NAME}@{codec}"))
    solvers = (FlowMatchEulerDiscreteScheduler(), FlowMatchEulerDiscreteScheduler())
    parts = (model, own, LinearAudioCodec(latent_channels=4, iterations=2), HashedWords(dim=8), *solvers)
    save_checkpoint(CCLPipeline(*parts, fps=8.0, height=16, width=16), tmp_path / "saved", "a card")
    forget()
    return tmp_path / "saved"


def test_a_named_class_is_found_without_an_import_and_works(codec: Path) -> None:
    found = find_component("video_codec", f"{NAME}@{codec}")
    assert (found.kind, found.width, found.label) == (NAME, 3, "BlurCodec from blur")
    assert "my_codecs" not in sys.modules
    own = load_component(found)
    assert isinstance(own, VideoCodec)
    video = torch.rand(1, 3, 1, 2, 2).mul(2).sub(1).repeat_interleave(8, 3).repeat_interleave(8, 4)
    video = video.expand(-1, -1, 6, -1, -1)
    latents = own.encode(video)
    assert latents.shape == (1, 3, own.latent_frames(6), 2, 2) == (1, 3, len(own.clock(6, 8.0).starts), 2, 2)
    torch.testing.assert_close(own.decode(latents, 6), video)


def test_a_training_configuration_names_it(codec: Path) -> None:
    settings = [f"components.video_codec={NAME}@{codec}", "data.manifest=clips", "output=run"]
    config = TrainConfig.load(ROOT / "configs/train/puppets_tiny.yaml", settings)
    source = component_source(config, "video_codec")
    assert source is not None and source.kind == NAME and source.root == str(codec)
    assert trusted_packages(config) == {"my_codecs"}


def test_a_checkpoint_with_it_needs_the_callers_word(checkpoint: Path) -> None:
    assert json.loads((checkpoint / INDEX).read_text())["video_codec"] == NAME.split(":")
    said = r"takes video_codec from module 'my_codecs\.blur', which is not trusted; .*--trust-package my_codecs"
    for load in (CCLPipeline.from_pretrained, check_checkpoint, lambda folder: load_checkpoint(CCLPipeline, folder)):
        with pytest.raises(UserError, match=said):
            load(checkpoint)
    with pytest.raises(UserError, match="holds BlurCodec; one of LinearVideoCodec"):
        find_component("video_codec", checkpoint)
    with pytest.raises(UserError, match="not trusted"):
        CCLPipeline.from_pretrained(checkpoint, trusted_packages=["my_other"])
    assert "my_codecs" not in sys.modules
    assert find_component("video_codec", checkpoint, ["my_codecs"]).kind == NAME
    assert "my_codecs" not in sys.modules
    pipeline = CCLPipeline.from_pretrained(checkpoint, trusted_packages=["my_codecs"])
    assert type(pipeline.video_codec).__name__ == "BlurCodec"
    made = pipeline("a bell", duration=0.5, num_inference_steps=1)
    assert made.video.shape == (1, 4, 16, 16, 3)


def test_the_sampling_scripts_option_allows_it(checkpoint: Path) -> None:
    options = ["--checkpoint", str(checkpoint), "--device", "cpu"]
    with pytest.raises(UserError, match="not trusted"):
        load_model(CCLPipeline, parse(SamplingOptions, None, options))
    pipeline = load_model(CCLPipeline, parse(SamplingOptions, None, [*options, "--trust-package", "my_codecs"]))
    assert type(pipeline.video_codec).__name__ == "BlurCodec"


def test_encoding_with_such_a_checkpoint_needs_the_same_word(checkpoint: Path, tmp_path: Path) -> None:
    words = ["--manifest", str(tmp_path), "--output", str(tmp_path / "out"), "--checkpoint", str(checkpoint)]
    with pytest.raises(UserError, match="holds BlurCodec; one of LinearVideoCodec"):
        component_sources(parse(EncodeOptions, None, words))
    sources = component_sources(parse(EncodeOptions, None, [*words, "--trust-package", "my_codecs"]))
    assert sources["video_codec"].kind == NAME and "my_codecs" not in sys.modules


def test_a_trusted_name_opens_no_other_module(checkpoint: Path, package: Path) -> None:
    """A folder's own code, and packages beside the one that is allowed, stay shut."""
    (package / "evil.py").write_text("raise SystemExit('imported')")
    index = json.loads((checkpoint / INDEX).read_text())
    for change in ({"audio_codec": ["evil", "Codec"]}, {"_class_name": ["evil", "Pipeline"]}):
        (checkpoint / INDEX).write_text(json.dumps(index | change))
        with pytest.raises(UserError, match=r"'evil', which is not trusted|a pipeline of its own, which is not run"):
            CCLPipeline.from_pretrained(checkpoint, trusted_packages=["my_codecs"])
    assert not {"evil", "my_codecs"} & set(sys.modules)


def test_an_encoder_of_tracks_is_named_likewise(tmp_path: Path) -> None:
    from my_codecs.sound import Loudness

    Loudness().save_pretrained(tmp_path / "loudness")
    encoder = audio_features(f"my_codecs.sound:Loudness@{tmp_path / 'loudness'}")
    features = encoder.encode(torch.full((1, 1, 8000), 0.5), 10, 10.0)
    assert features.shape == (1, 10, 5, 1, 1) and features[0, 4, 2].item() == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("my_codecs.none:Blur", r"my_codecs\.none:Blur: No module named 'my_codecs\.none'; install its package"),
        ("my_codecs.blur:Blur", r"my_codecs\.blur:Blur: the module has no Blur"),
    ],
)
def test_a_class_that_is_not_there_is_said_in_one_line(codec: Path, kind: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_component(find_component("video_codec", f"{kind}@{codec}"))


def test_a_configuration_without_a_width_is_refused(codec: Path) -> None:
    (codec / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"blur/config\.json: has no latent_channels"):
        find_component("video_codec", f"{NAME}@{codec}")


def test_what_a_checkpoint_cannot_hold_is_known_before_training(codec: Path) -> None:
    from my_codecs.blur import BlurCodec

    check_saveable("components.video_codec", load_component(find_component("video_codec", f"{NAME}@{codec}")))

    class Unsaved(BlurCodec):
        def save_pretrained(self, *args: object, **options: object) -> None:
            raise NotImplementedError("one day")

    class NoModel:
        pass

    Unsaved.__module__ = NoModel.__module__ = "my_codecs.blur"
    for part, said in ((Unsaved(), "one day"), (NoModel(), "")):
        with pytest.raises(UserError, match=f"components.video_codec: .* cannot be saved with the checkpoint .*{said}"):
            check_saveable("components.video_codec", part)
