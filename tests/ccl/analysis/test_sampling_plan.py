"""What a sample is said to need, against what is live of a small pipeline; real codecs without values."""

from __future__ import annotations

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from live_bytes import allocated

from ccl.analysis.memory_estimate import LatentSizes
from ccl.analysis.sampling_plan import audio_codec, plan_sampling, text_encoder, video_codec
from ccl.pipeline import CCLPipeline
from ccl.training.meta_run import forecast_components
from ccl.transformer import DualStreamTransformer
from shared.codecs import LinearAudioCodec, LinearVideoCodec
from shared.encoders import HashedWords
from shared.utils.config import TrainConfig

STREAM = {"num_attention_heads": 2, "attention_head_dim": 48, "num_layers": 3, "ffn_dim": 256, "text_dim": 12}
MODEL = {
    "video": STREAM | {"in_channels": 4}, "audio": STREAM | {"in_channels": 5}, "cca_heads": 2, "cca_head_dim": 24,
}  # fmt: skip
CONFIG = TrainConfig.model_validate(
    {"output": "out", "model": MODEL, "data": {"manifest": "clips", "size": [128, 128]}, "train": {"steps": 1}}
)
SIZES = LatentSizes(frames=5, height=16, width=16, audio=27, text=64)


def pipeline() -> CCLPipeline:
    solvers = (FlowMatchEulerDiscreteScheduler(), FlowMatchEulerDiscreteScheduler())
    sound = LinearAudioCodec(latent_channels=5, iterations=1)
    parts = DualStreamTransformer(**MODEL), LinearVideoCodec(latent_channels=4), sound, HashedWords(dim=12)
    made = CCLPipeline(*parts, *solvers, height=128, width=128)
    made.set_progress_bar_config(disable=True)
    return made


def weights(pipe: CCLPipeline) -> int:
    parts = (part for part in pipe.components.values() if isinstance(part, torch.nn.Module))
    return sum(p.nbytes for part in parts for p in part.parameters())


def total(level: str, dtype: torch.dtype = torch.float32) -> tuple[int, int]:
    rows = plan_sampling(CONFIG, forecast_components(CONFIG), SIZES, level, dtype)
    return sum(row.gpu for row in rows), sum(row.host for row in rows)


def test_a_fast_sample_is_within_a_tenth_of_what_is_live() -> None:
    pipe = pipeline()
    peak = allocated(lambda: pipe("a bell", duration=17 / 16, num_inference_steps=1, seed=0), backward=False)
    assert total("fast")[0] == pytest.approx(weights(pipe) + peak, rel=0.1)


def test_low_keeps_what_the_pipeline_keeps() -> None:
    pipe = pipeline()
    pipe.set_memory("low", "cpu")
    gpu, host = total("low")
    assert host == pytest.approx(weights(pipe), rel=0.1)
    assert 0 < gpu <= total("balanced")[0] < total("fast")[0] and total("fast")[1] == 0
    whole, half = (total("balanced", dtype)[1] for dtype in (torch.float32, torch.bfloat16))  # the transformer, waiting
    assert half == pytest.approx(whole / 2, rel=0.1)


def test_public_components_stand_on_the_meta_device_at_their_size() -> None:
    assert video_codec(16).num_parameters() / 1e6 == pytest.approx(126.9, abs=0.1)
    assert video_codec(48).num_parameters() / 1e6 == pytest.approx(704.7, abs=0.1)
    sound, text = audio_codec(128), text_encoder(4096)
    assert all(p.is_meta for model in (sound, text) for p in model.parameters())
    assert sum(p.numel() for p in text.parameters()) == pytest.approx(5.68e9, rel=0.01)
    assert not list(text_encoder(128).parameters()) and video_codec(7).latent_channels == 7
