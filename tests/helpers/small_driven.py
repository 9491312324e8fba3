"""A tiny joint model with a control network, as `MTVPipeline`, and tracks for it."""

from __future__ import annotations

from functools import cache

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from torch import nn

from ccl.pipeline import CCLPipeline
from ccl.transformer import DualStreamTransformer
from mtv.control import MSTControlNet
from mtv.guidance import TrackGuidance
from mtv.pipeline import MTVPipeline
from mtv.tracks import Tracks
from shared.codecs import LinearAudioCodec, LinearVideoCodec, frames_to_tensor
from shared.encoders import HashedWords
from shared.encoders.audio import LogMel
from shared.puppets.clip import render_clip, sample_spec
from shared.utils.rng import generator

FPS, RATE = 16.0, 16000
STREAM = {"num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 2, "ffn_dim": 32, "text_dim": 12}
NONE = TrackGuidance(1, 1, 1, 1)


def noise(name: str, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=generator(0, "tests", name))


def randomise(module: nn.Module) -> nn.Module:
    """Random values where a weight starts at zero, so that no path is dead."""
    for name, parameter in module.named_parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.3, generator=generator(0, "weights", name))
    return module.eval()


def network(**changes) -> MSTControlNet:
    torch.manual_seed(0)
    size = (5, 1, 32)
    sizes = {"token_dim": 16, "tokens": 2, "interaction_blocks": 1, "heads": 2, "ffn_dim": 16, "hidden_dim": 16}
    tracks = dict.fromkeys(("speech", "effects", "music"), size)
    return MSTControlNet(backbone_dim=24, backbone_heads=2, num_blocks=2, tracks=tracks, **(sizes | changes)).eval()


def picture(name: str) -> torch.Tensor:
    return nn.functional.interpolate(noise(name, 1, 3, 3, 3).clamp(-1, 1), size=(32, 32), mode="bilinear")[0]


@cache
def stage_codec() -> LinearVideoCodec:
    """A codec of a few clips of the stage."""
    frames = (torch.from_numpy(render_clip(sample_spec(1, i, "simple")).frames) for i in range(12))
    return LinearVideoCodec.fit((frames_to_tensor(one)[None] for one in frames), latent_channels=48)


def joint(solver: str = "euler") -> CCLPipeline:
    torch.manual_seed(0)
    video, audio = STREAM | {"in_channels": 48, "skip": True}, STREAM | {"in_channels": 5}
    model = DualStreamTransformer(video, audio, cca_heads=2, cca_head_dim=12, context_tokens=2)
    solvers = {
        "euler": lambda: FlowMatchEulerDiscreteScheduler(shift=1.5),
        "unipc": lambda: UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.5
        ),
    }
    made = CCLPipeline(
        randomise(model),
        stage_codec(),
        LinearAudioCodec(latent_channels=5, iterations=2),
        HashedWords(dim=12, max_length=4),
        *(solvers[solver]() for _ in range(2)),
        fps=FPS,
        height=32,
        width=32,
        control=randomise(network()),
        audio_encoder=LogMel(parts_per_frame=2, n_mels=16),
    )
    made.set_progress_bar_config(disable=True)
    return made


def driven(ccl: CCLPipeline, **parts) -> MTVPipeline:
    made = MTVPipeline.from_pipe(ccl, **parts)
    made.set_progress_bar_config(disable=True)
    return made


def sound(name: str, seconds: float = 13 / FPS) -> torch.Tensor:
    return 0.1 * noise(name, 1, round(seconds * RATE))


def tracks(name: str = "a", seconds: float = 13 / FPS, speakers: int = 1) -> Tracks:
    speech = [sound(f"{name} speech {k}", seconds) for k in range(speakers)]
    return Tracks(speech, sound(f"{name} effects", seconds), sound(f"{name} music", seconds))
