from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from ccl.pipeline import CCLPipeline
from ccl.transformer import DualStreamTransformer
from shared.checkpoint.folder import save_checkpoint
from shared.codecs import LinearAudioCodec, LinearVideoCodec
from shared.encoders import HashedWords


@pytest.fixture(scope="package")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights; 32x32 at 8 fps. The video codec knows flat colours: a first frame is found again."""
    torch.manual_seed(0)
    colours = torch.rand(40, 3, 1, 1, 1).mul(2).sub(1).expand(-1, -1, 1, 8, 8)
    video_codec = LinearVideoCodec.fit([colours + 0.01 * torch.randn(colours.shape)], latent_channels=8)
    audio_codec = LinearAudioCodec(latent_channels=8, iterations=2)
    stream = {"num_attention_heads": 1, "attention_head_dim": 12, "num_layers": 1, "ffn_dim": 16}
    stream |= {"in_channels": 8, "text_dim": 128}
    model = DualStreamTransformer(video=stream, audio=stream, cca_heads=1, cca_head_dim=12, context_tokens=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    solvers = (FlowMatchEulerDiscreteScheduler(), FlowMatchEulerDiscreteScheduler())
    parts = (model, video_codec, audio_codec, HashedWords(), *solvers)
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    save_checkpoint(CCLPipeline(*parts, fps=8.0, height=32, width=32), folder, "a card")
    return folder
