"""TalkNet-ASD: the published layout, the published scores of random weights, and which frames have one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from convert import main as convert
from feature_models import save_talknet
from safetensors.torch import load_file, save_file

from shared.perception.talknet import STEADY, TalkNet, TalkNetScores, grey_faces
from shared.utils.errors import UserError
from shared.utils.rng import generator

#: Shapes of the public file, a few of each kind.
PUBLISHED = {
    "model.visualFrontend.frontend3D.0.weight": [64, 1, 5, 7, 7],
    "model.visualFrontend.resnet.layer1.downsample.weight": [64, 64, 1, 1],
    "model.visualFrontend.resnet.layer2.conv1a.weight": [128, 64, 3, 3],
    "model.visualFrontend.resnet.layer4.outbna.running_var": [512],
    "model.visualTCN.net.4.net.2.weight": [512, 1, 3],
    "model.visualTCN.net.0.net.3.weight": [1],
    "model.visualTCN.net.0.net.4.gamma": [1, 512, 1],
    "model.visualTCN.net.0.net.5.weight": [512, 512, 1],
    "model.visualConv1D.net.0.weight": [256, 512, 5],
    "model.visualConv1D.net.3.bias": [128],
    "model.audioEncoder.conv1.weight": [16, 1, 7, 7],
    "model.audioEncoder.layer1.2.se.fc.0.weight": [2, 16],
    "model.audioEncoder.layer2.0.downsample.1.running_mean": [32],
    "model.audioEncoder.layer3.5.conv2.weight": [64, 64, 3, 3],
    "model.audioEncoder.layer4.0.downsample.0.weight": [128, 64, 1, 1],
    "model.crossA2V.self_attn.in_proj_weight": [384, 128],
    "model.crossV2A.linear1.weight": [512, 128],
    "model.selfAV.self_attn.out_proj.weight": [256, 256],
    "model.selfAV.norm2.bias": [256],
    "lossAV.FC.weight": [2, 256],
}
FRAMES = 30
#: Of `randomised` weights, `crops` and `voice`, as demoTalkNet.py of TaoRuijie/TalkNet-ASD scores them, unrounded.
SCORES = {0: -0.661394, 12: -0.518639, 23: -0.497341, 24: -0.548587, 25: -0.497571, 26: -0.403757, 28: -0.641555}


def randomised(network: TalkNet) -> TalkNet:
    for name, value in network.state_dict().items():
        if name.endswith("tracked"):
            continue
        noise = torch.randn(value.shape, generator=generator(0, "test", name))
        if name.endswith("running_var"):
            value.copy_(0.5 + noise.abs())
        elif value.ndim > 1 and name.endswith("weight"):
            value.copy_(noise / value[0].numel() ** 0.5)
        else:
            value.copy_(0.2 * noise + name.endswith(("weight", "gamma")))
    return network


def crops() -> np.ndarray:
    """A pattern that moves."""
    frame, row, column, colour = np.ogrid[:FRAMES, :224, :224, :3]
    return (128 + 100 * np.sin(0.7 * frame + 0.05 * row * (colour + 1)) * np.cos(0.11 * column)).astype(np.uint8)


def voice(frames: int = FRAMES) -> np.ndarray:
    at = np.arange(640 * frames)
    samples = 8000 * np.sin(0.07 * at) * np.abs(np.sin(at / 3000)) + 1500 * np.sin(0.9 * at)
    return (np.round(samples) / 32768).astype(np.float32)


def test_the_layout_is_the_published_one() -> None:
    with torch.device("meta"):
        network = TalkNet().eval()
    state = {name: value for name, value in network.state_dict().items() if not name.endswith("tracked")}
    assert {name: list(state[name].shape) for name in PUBLISHED} == PUBLISHED
    assert len(state) == 424 and sum(value.numel() for value in network.parameters()) == 15_743_965
    faces, cepstra = torch.zeros(2, 6, 112, 112, device="meta"), torch.zeros(2, 24, 13, device="meta")
    assert network(faces, cepstra).shape == (2, 6)


def test_the_scores_are_those_of_the_public_demo() -> None:
    """Over a second, so that windows of one second and of more differ."""
    scores = TalkNetScores(randomised(TalkNet()))
    raw = scores.raw(crops(), voice())
    assert len(raw) == FRAMES - 1  # four steps of the cepstrum a frame, but three of the last
    assert [raw[at] for at in SCORES] == pytest.approx([*SCORES.values()], abs=2e-5)
    steady = scores(crops(), voice())
    assert steady[12] == pytest.approx(raw[10:15].mean()) and steady[0] == pytest.approx(raw[:3].mean())
    assert steady[-1] == pytest.approx(raw[-3:].mean()) and STEADY == 5


def test_frames_without_sound_have_no_score() -> None:
    scores = TalkNetScores(TalkNet())
    assert len(scores(crops()[:4], voice(2)[:-640])) == 0 and len(scores(crops(), np.zeros(0, np.float32))) == 0
    assert len(scores(crops()[:4], voice(9))) == 4 and len(scores(crops()[:9], voice(4))) == 3


def test_grey_is_the_inner_half() -> None:
    pictures = np.zeros((1, 224, 224, 3), np.uint8)
    pictures[:, 56:168, 56:168] = (200, 100, 50)
    assert (grey_faces(pictures) == 124).all() and grey_faces(pictures).shape == (1, 112, 112)
    assert (grey_faces(np.full((1, 224, 224, 3), 255, np.uint8)) == 255).all()


def test_the_public_file_is_converted_and_loaded_and_another_is_refused(tmp_path: Path) -> None:
    state = load_file(save_talknet(tmp_path / "state.safetensors"))
    torch.save(state, tmp_path / "pretrain_TalkSet.model")
    file = tmp_path / "talknet" / "talknet.safetensors"
    convert(["to-safetensors", "--source", str(tmp_path / "pretrain_TalkSet.model"), "--output", str(file)])
    loaded = TalkNetScores.load(file.parent).model.state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in PUBLISHED)
    del state["lossAV.FC.bias"]
    save_file(state, file)
    with pytest.raises(UserError, match=r"1 weights are missing, as lossAV\.FC\.bias; the published names"):
        TalkNetScores.load(file)
