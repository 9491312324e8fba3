"""A plan of a training against what is live on small models: all of one, and adapters; its time, clips and disk."""

from __future__ import annotations

from typing import Any

import live_bytes
import pytest
import torch
from live_bytes import allocated, saved_bytes
from tiny import CONFIG, TEXT

from ccl.analysis.memory_estimate import LatentSizes
from ccl.analysis.training_plan import HOST_LINK, plan_training, setting_of, shard_bytes
from ccl.flops import meta_inputs
from ccl.routing import Task
from ccl.training.build import JointAdapter
from ccl.training.meta_run import MetaModels, forecast_components
from ccl.transformer import StreamInput
from shared.nn.clock import LatentClock
from shared.training.optimizer import build_optimizer
from shared.utils.config import TrainConfig
from shared.utils.errors import UserError

SIZES = LatentSizes(frames=4, height=16, width=16, audio=21, text=TEXT[0])
BATCH = 2
LORA = {"lora": {"rank": 4}, "init": "nowhere"}


def config(**changes: Any) -> TrainConfig:
    raw = {
        "output": "out", "model": CONFIG, "data": {"manifest": "clips", "size": [64, 64]},
        "deepspeed": {"zero_optimization": {"stage": 0}},
        "train": {"steps": 10, "micro_batch": BATCH, "ema": 0.9} | changes.pop("train", {}),
    }  # fmt: skip
    return TrainConfig.model_validate(raw | changes)


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    live_bytes.as_on_a_gpu(monkeypatch)


def real(of: TrainConfig) -> tuple[Any, Any]:
    """The model as training has it, on the CPU with gradients in place, and a pass of it."""
    model = JointAdapter(of.model_copy(update={"init": None}), forecast_components(of)).transformer.train()
    clocks = LatentClock.causal_video(SIZES.frames, 16.0, 4), LatentClock.at_rate(SIZES.audio, 25.0)
    meta = meta_inputs(model, (SIZES.frames, SIZES.height, SIZES.width), SIZES.audio, SIZES.text, clocks, BATCH)
    video, audio = (
        StreamInput(*(torch.randn(part.shape) for part in (one.latents, one.sigma, one.text)), one.clock)
        for one in meta
    )

    def run() -> torch.Tensor:
        outputs = model(Task.T2AV.route, video, audio)
        return torch.stack([part.square().mean() for part in outputs if part is not None]).sum()

    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    return model, run


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("changes", [{}, LORA, {"trainable": ["fusion"]}], ids=["full", "LoRA", "frozen towers"])
def test_a_plan_is_within_a_tenth_of_what_is_live(changes: dict[str, Any], checkpointing: bool) -> None:
    of = config(**changes, train={"activation_checkpointing": checkpointing})
    model, run = real(of)
    if checkpointing:
        model.enable_gradient_checkpointing()
    peak = allocated(run)
    optimizer = build_optimizer([{"params": [p for p in model.parameters() if p.requires_grad]}], of.optimizer, 0.9)
    optimizer.step()
    kept = {
        "weights": sum(p.nbytes for p in model.parameters()),
        "gradients": sum(p.grad.nbytes for p in model.parameters() if p.grad is not None),
        "optimizer: moments and average": sum(x.nbytes for s in optimizer.state.values() for x in s.values() if x.ndim),
    }
    plan = plan_training(of, forecast_components(of), SIZES, gpus=1)
    rows = {row.what: row.gpu for row in plan.rows}
    text = rows.pop("text embeddings")
    assert {name: rows[name] for name in kept} == kept
    assert plan.gpu - text == pytest.approx(sum(kept.values()) + peak, rel=0.1)
    assert plan.parameters.trained * 4 == kept["gradients"] and plan.parameters.all * 4 == kept["weights"]


@pytest.mark.parametrize("changes", [{}, LORA], ids=["full", "LoRA"])
def test_what_autograd_saves_is_what_the_plan_keeps(changes: dict[str, Any]) -> None:
    from ccl.analysis.training_plan import _pass

    model, run = real(config(**changes))
    with saved_bytes(model) as count:
        loss = run()
    kept, _ = _pass(config(**changes), forecast_components(config()), SIZES, BATCH, Task.T2AV)
    assert loss.requires_grad and count() == pytest.approx(kept, rel=0.1)


def test_the_control_network_and_its_task_count() -> None:
    control = {"token_dim": 8, "tokens": 2, "interaction_blocks": 1, "heads": 2, "ffn_dim": 8, "hidden_dim": 8}
    driven = config(control=control, tasks={"mtv": 1.0})
    models = MetaModels(driven, forecast_components(driven))
    plan = plan_training(driven, forecast_components(driven), SIZES, 1)
    assert (
        plan.parameters.all
        == sum(p.numel() for p in models.parameters())
        > plan_training(config(), forecast_components(config()), SIZES, 1).parameters.all
    )
    assert plan.clip.flops > 0 and next(models.parameters()).is_meta


def test_tokens_clips_and_time_follow_the_settings() -> None:
    of = config(train={"gradient_accumulation_steps": 3}, tasks={"t2av": 1.0})
    plan = plan_training(of, forecast_components(of), SIZES, 4)
    tokens = 4 * 16 * 16 // 4 if CONFIG["video"].get("patch_size", (1, 2, 2))[1] == 2 else 4 * 256
    assert plan.clips == 2 * 3 * 4 and plan.tokens == plan.clips * (tokens + 21)
    seconds = plan.seconds(of, 4, 1e12, 0.5)
    assert seconds == pytest.approx(plan.clip.flops * plan.clips / 2e12)
    zero = {"stage": 3, "offload_param": {"device": "cpu"}, "offload_optimizer": {"device": "cpu"}}
    far = config(train={"gradient_accumulation_steps": 3}, tasks={"t2av": 1.0}, deepspeed={"zero_optimization": zero})
    away = plan_training(far, forecast_components(far), SIZES, 4)
    size = plan.parameters.all * 4 // 4
    assert away.seconds(far, 4, 1e12, 0.5) - seconds == pytest.approx((2 * 3 * size + 2 * size) / HOST_LINK)
    assert away.host > 0 == plan.host and setting_of(far, 4).offload == "all"
    assert shard_bytes(of, forecast_components(of), SIZES) == 2 * (4 * 4 * 16 * 16 + 5 * 21) + 4 * TEXT[0] * 12
    alone = plan_training(config(tasks={"t2a": 1.0}), forecast_components(of), SIZES, 1)
    assert alone.tokens == 2 * 21 and alone.clip.flops < plan.clip.flops


def test_what_cannot_be_is_refused() -> None:
    wrong = config(deepspeed={"zero_optimization": {"stage": 2, "offload_param": {"device": "cpu"}}})
    with pytest.raises(UserError, match=r"deepspeed\.zero_optimization: offload of all needs ZeRO-3"):
        plan_training(wrong, forecast_components(wrong), SIZES, 1)
    with pytest.raises(UserError, match="context_parallel 4: 2 GPUs are fewer"):
        plan_training(config(train={"context_parallel": 4}), forecast_components(wrong), SIZES, 2)
