"""Components are found by what their folders or hub ids say, before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from shared.checkpoint.registry import find_component, load_component
from shared.codecs import LinearVideoCodec
from shared.encoders import HashedWords
from shared.utils.errors import UserError

COMMIT = "0" * 40


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the hub's cache holds of someone/parts, with no net: a codec, HashedWords and the outlines of UMT5."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--someone--parts"
    snapshot = repository / "snapshots" / COMMIT
    LinearVideoCodec(latent_channels=4).save_pretrained(snapshot / "video_codec")
    (snapshot / "text_encoder").mkdir()
    (snapshot / "text_encoder/config.json").write_text(json.dumps({"model_type": "umt5", "d_model": 16}))
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(COMMIT)
    return snapshot


def test_a_hub_id_in_the_cache_is_as_good_as_a_folder(hub: Path) -> None:
    local, remote = (find_component("video_codec", place) for place in (hub, "someone/parts"))
    assert (
        (remote.kind, remote.place)
        == (local.kind, local.place)
        == ("shared.codecs.linear:LinearVideoCodec", "video_codec")
    )
    assert Path(remote.folder) == hub / "video_codec"
    state = load_component(local).state_dict()
    assert all(torch.equal(value, state[name]) for name, value in load_component(remote).state_dict().items())


def test_a_text_encoder_says_its_width_and_keeps_its_tokenizer_beside_it(hub: Path, tmp_path: Path) -> None:
    found = find_component("text_encoder", "someone/parts")
    assert found.width == 16 and Path(found.folder) == hub  # UMT5's own loader looks for tokenizer/ there
    HashedWords(dim=12).save_pretrained(tmp_path / "ours/text_encoder")
    ours = find_component("text_encoder", tmp_path / "ours")
    assert ours.width == 12 and Path(ours.folder) == tmp_path / "ours/text_encoder"


def test_what_is_not_there_is_said_in_one_line(hub: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"someone/parts: no audio codec \(no config\.json or .* HF_HUB_OFFLINE is set"):
        find_component("audio_codec", "someone/parts")
    with pytest.raises(UserError, match=r"nowhere: no video codec \(no config\.json or video_codec/config\.json"):
        find_component("video_codec", "nowhere")
    with pytest.raises(UserError, match="holds umt5; one of LinearVideoCodec"):
        find_component("video_codec", hub / "text_encoder")
