"""The teacher's velocities are those of the samplers, on every route; what it cannot teach is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_distill import batch
from tiny import FRAMES, TOKENS, VIDEO_CLOCK, noise, transformer

from ccl.guidance import Form, Guidance
from ccl.routing import Task
from ccl.sampler import Clean, Conditions, JointSampler
from ccl.training.teacher import Teacher, check_teacher, few_steps, joint_guidance, track_guidance
from mtv.control import MSTControlNet, TrackFeatures
from mtv.guidance import TrackGuidance
from mtv.windows import WindowSampler
from shared.utils.config import TrainConfig
from shared.utils.config_sections import Distill
from shared.utils.errors import UserError

SIGMAS = {"video": 0.8, "audio": 0.6}
SETTINGS = Distill(
    teacher="T", text_scale=(2.0, 3.0), context_scale_per_task={"v2a": (1.0, 1.5)}, track_scale={"music": 2}
)


def levels(size: int) -> dict[str, torch.Tensor]:
    return {name: torch.full((size,), sigma) for name, sigma in SIGMAS.items()}


@pytest.mark.parametrize("task", ["t2av", "t2v", "t2a", "a2v", "v2a"])
def test_it_guides_as_sampling_does(task: str) -> None:
    """With clean frames and tokens, which in sampling are the same in all samples."""
    model, data, route = transformer(), batch([task] * 2), Task(task).route
    frames, tokens = torch.arange(FRAMES) < 1, torch.arange(TOKENS) < 4
    data = replace(data, clean_frames=frames.expand(2, -1), clean_tokens=tokens.expand(2, -1))
    latents = {"video": data.video, "audio": data.audio}
    found = Teacher(model, None, SETTINGS).velocity(data, Task(task), latents, levels(2))
    texts = Conditions({"video": data.text, "audio": data.audio_text}, data.empty_text)
    guidance = Guidance(Form.DUAL, (2.0, 3.0), (1.0, 1.5) if task == "v2a" else (2.0, 2.0))
    given = {name: latents[name] for name in {"a2v": ["audio"], "v2a": ["video"]}.get(task, [])}
    clean = {"video": Clean(data.video, frames), "audio": Clean(data.audio, tokens)}
    clean = {name: one for name, one in clean.items() if route.is_noisy(name)}
    clocks = (data.video_clock, data.audio_clock)
    expected = JointSampler(model, route, texts, clocks, guidance, given, clean).velocity(latents, SIGMAS)
    assert set(found) == set(expected)
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-5)
        assert not value.requires_grad and value.std() > 0.1


def network() -> MSTControlNet:
    torch.manual_seed(0)
    sizes = {"token_dim": 8, "tokens": 2, "interaction_blocks": 1, "heads": 2, "ffn_dim": 8, "hidden_dim": 8}
    tracks = dict.fromkeys(("speech", "effects", "music"), (3, 1, 4))
    made = MSTControlNet(backbone_dim=48, backbone_heads=2, num_blocks=2, tracks=tracks, **sizes)
    for name, weight in made.named_parameters():
        if not weight.any():
            weight.data = 0.3 * noise(name, *weight.shape)
    return made


def test_tracks_guide_as_in_sampling() -> None:
    frames = 1 + 4 * (FRAMES - 1)
    clip = {
        name: noise(name, *([1] if name == "speech" else []), frames, 3, 1, 4)
        for name in ("speech", "effects", "music")
    }
    model, control, tracks = transformer(), network().eval(), TrackFeatures.of([clip, clip])
    data = replace(batch(["mtv"] * 2), tracks=tracks, clean_frames=(torch.arange(FRAMES) < 1).expand(2, -1))
    teacher = Teacher(model, control, SETTINGS)
    found = teacher.velocity(data, Task.MTV, {"video": data.video, "audio": data.audio}, levels(2))
    clean = {0: data.video[:, :, 0]}
    guidance = TrackGuidance(music=2.0)
    given = model, control, tracks, data.text, data.empty_text, VIDEO_CLOCK, clean, guidance
    with torch.no_grad():
        expected = WindowSampler(*given).velocity(data.video, SIGMAS["video"])
    torch.testing.assert_close(found["video"], expected, rtol=0, atol=1e-5)
    assert not any(weight.requires_grad for one in teacher.models() for weight in one.parameters())


def test_scales_are_the_pipelines_where_none_are_set() -> None:
    bare = Distill(teacher="T")
    assert joint_guidance(bare, Task.T2AV) == Guidance() and track_guidance(bare) == TrackGuidance()
    own = Distill(teacher="T", text_scale_per_task={"mtv": (3.0, 1.0)})
    assert track_guidance(own) == TrackGuidance(text=3.0) and joint_guidance(own, Task.T2AV) == Guidance()


def folder(path: Path, shift: float = 3.0, **transformer: Any) -> Path:
    for solver in ("scheduler", "audio_scheduler"):
        (path / solver).mkdir(parents=True)
        (path / solver / "scheduler_config.json").write_text(json.dumps({"shift": shift}))
    (path / "transformer").mkdir()
    (path / "transformer/config.json").write_text(json.dumps(transformer))
    return path


def config(init: Path, teacher: Path | None, **changes: Any) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "output": "o", "model": {}, "data": {"manifest": "m"}, "train": {"steps": 1}, "init": str(init),
            "flow": {"video_shift": 3.0, "audio_shift": 3.0}, "tasks": {"t2av": 1},
            "distill": {"teacher": teacher and str(teacher)}, **changes,
        }
    )  # fmt: skip


def test_a_checkpoint_tells_the_guidance_of_each_task_that_it_learned(tmp_path: Path) -> None:
    start = folder(tmp_path / "start")
    made = few_steps(config(start, start, tasks={"t2av": 1, "v2a": 0}))
    scales = {"text_scale": [2.5, 2.5], "context_scale": [2.0, 2.0], "interval": [0.5, 1.0]}
    assert made.as_config() == {"steps": 4, "shifts": [3.0, 3.0], "guidance": {"t2av": scales}}
    tuned = few_steps(config(folder(tmp_path / "few", distilled=made.as_config()), None, tasks={"t2av": 1, "t2v": 1}))
    assert tuned.guidance == {"t2av": scales, "t2v": {}}
    with_tracks = few_steps(config(start, start, tasks={"mtv": 1}, control={}))
    assert with_tracks.guidance == {"mtv": {"text": 2.0, "speech": 1.5, "effects": 1.0, "music": 1.0}}


def test_a_teacher_that_cannot_teach_is_refused(tmp_path: Path) -> None:
    start = folder(tmp_path / "start")
    check_teacher(config(start, start))
    check_teacher(config(start, None))
    other = folder(tmp_path / "other", shift=1.0)
    with pytest.raises(
        UserError, match=r"flow.video_shift 3: the noise levels of distill.teacher .*other have shift 1"
    ):
        check_teacher(config(start, other))
    with pytest.raises(UserError, match=r"flow.video_shift 3: the noise levels of init .*other have shift 1"):
        check_teacher(config(other, None))
    few = folder(tmp_path / "few", distilled={"steps": 4})
    with pytest.raises(UserError, match="is distilled itself"):
        check_teacher(config(start, few))
    with pytest.raises(UserError, match="has no control network"):
        check_teacher(config(start, start, tasks={"mtv": 1}, control={}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"flow": {"sigmas": "independent"}}, "both streams go by one clock"),
        ({"detach_clean_stream": True}, "detach_clean_stream has no effect"),
        ({"deepspeed": {"zero_optimization": {"stage": 3}}}, "set ZeRO stage 0 to 2"),
        ({"distill": {"text_scale": [2, 2]}}, "scales are of a teacher's guidance"),
    ],
)
def test_settings_that_do_not_suit_few_steps_are_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config(tmp_path, tmp_path, **changes)
