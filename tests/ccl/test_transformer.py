"""The two towers: identities between routes, clean contexts, clocks, checkpointing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny import AUDIO_CLOCK, CONFIG, FRAMES, TOKENS, VIDEO_CLOCK, inputs, noise, rotary_arguments, transformer

from ccl.routing import JOINT_TASKS, Task
from ccl.transformer import DualStreamTransformer, embed
from shared.nn.clock import LatentClock

SINGLE = [(Task.T2V, 0), (Task.T2A, 1)]


def zeroed(given):
    """The given stream at sigma 0, as a clean one."""
    return replace(given, sigma=torch.zeros_like(given.sigma))


@torch.no_grad()
def test_with_an_untrained_cca_t2av_is_the_two_streams_alone_to_the_bit():
    model = transformer(keep="fusion")
    video, audio = inputs()
    v, a = model(Task.T2AV.route, video, audio)
    alone = model.audio_stream(audio.latents.transpose(1, 2)[..., None, None], audio.sigma, audio.text, AUDIO_CLOCK)
    assert v.std() > 0.1 and a.std() > 0.1
    assert torch.equal(v, model.video_stream(video.latents, video.sigma, video.text))
    assert torch.equal(a, alone[..., 0, 0].transpose(1, 2))


@torch.no_grad()
@pytest.mark.parametrize(("task", "stream"), SINGLE)
@pytest.mark.parametrize("joint", [Task.T2AV, Task.A2V, Task.V2A])
def test_the_0m_pass_is_the_single_task_to_the_bit(task, stream, joint):
    model, given = transformer(), inputs()
    if not (joint.route.video_noisy, joint.route.audio_noisy)[stream]:
        return
    single = model(task.route, *(part if i == stream else None for i, part in enumerate(given)))
    assert single[1 - stream] is None and single[stream].std() > 0.1
    assert torch.equal(model(joint.route.unconditional, *given)[stream], single[stream])


@torch.no_grad()
def test_the_0m_pass_does_not_see_the_other_streams_content_and_the_joint_pass_does():
    model, here, there = transformer(), inputs("a"), inputs("b")
    for stream in (0, 1):
        mixed = [there[0], there[1]]
        mixed[stream] = here[stream]
        assert torch.equal(
            model(Task.T2AV.route.unconditional, *mixed)[stream], model(Task.T2AV.route.unconditional, *here)[stream]
        )
        joint = model(Task.T2AV.route, *mixed)[stream]
        assert not torch.allclose(joint, model(Task.T2AV.route, *here)[stream], atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize(("task", "clean", "made"), [(Task.A2V, 1, 0), (Task.V2A, 0, 1)])
def test_a_cached_context_gives_what_one_pass_gives(task, clean, made):
    model, given = transformer(), list(inputs())
    given[clean] = zeroed(given[clean])
    together = model(task.route, *given)
    kept = list(given)
    kept[clean] = model.context(("video", "audio")[clean], given[clean])
    apart = model(task.route, *kept)
    assert together[clean] is None and apart[clean] is None
    torch.testing.assert_close(apart[made], together[made], rtol=0, atol=1e-6)


@torch.no_grad()
def test_the_sound_of_a2v_does_not_depend_on_the_video():
    """One cached context serves two videos: what each reads in a pass of its own is the same."""
    model, (first, audio), (second, _) = transformer(), inputs("a"), inputs("b")
    context = model.context("audio", zeroed(audio))
    outputs = [model(Task.A2V.route, video, zeroed(audio))[0] for video in (first, second)]
    for video, expected in zip((first, second), outputs, strict=True):
        torch.testing.assert_close(model(Task.A2V.route, video, context)[0], expected, rtol=0, atol=1e-6)
    assert not torch.allclose(*outputs, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("scale", [1.0, 6.25])
@pytest.mark.parametrize("seconds", [1 / 3, 500.0])
def test_a_shift_of_both_clocks_changes_no_output(seconds, scale):
    model, (video, audio) = transformer(cca_time_scale=scale), inputs()
    moved = replace(video, clock=VIDEO_CLOCK.shifted(seconds)), replace(audio, clock=AUDIO_CLOCK.shifted(seconds))
    for here, there in zip(model(Task.T2AV.route, video, audio), model(Task.T2AV.route, *moved), strict=True):
        torch.testing.assert_close(there, here, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_time_scale_says_how_far_apart_the_tokens_of_a_window_are():
    """At 0 a window is a set: a clip of one window does not notice when its sound is played in another order."""
    video, audio = inputs(batch=1)
    audio = replace(audio, latents=audio.latents[:, :3], clock=LatentClock.at_rate(3, 25.0))
    x, y = noise("x", 1, FRAMES, 48), noise("y", 1, 3, 36)
    for scale, ordered in ((0.0, False), (1.0, True), (6.25, True)):
        model = transformer(cca_time_scale=scale)
        cca, (places, _) = model.blocks[0].fusion.video, rotary_arguments(model, video, audio)
        played = [cca(x, cca.key_value(z), **places) for z in (y, y[:, [2, 0, 1]])]
        assert torch.allclose(*played, atol=1e-6) != ordered


@torch.no_grad()
def test_both_directions_read_the_states_from_before_the_step():
    model = transformer(video=CONFIG["video"] | {"num_layers": 1}, audio=CONFIG["audio"] | {"num_layers": 1})
    given = inputs()
    v, a = model(Task.T2AV.route, *given)
    model.blocks[0].fusion.video.to_out.weight.mul_(2)
    changed_v, same_a = model(Task.T2AV.route, *given)
    assert torch.equal(same_a, a) and not torch.allclose(changed_v, v, atol=1e-3)
    model.blocks[0].fusion.audio.to_out.weight.mul_(2)
    assert torch.equal(model(Task.T2AV.route, *given)[0], changed_v)


@torch.no_grad()
def test_the_control_hook_reaches_the_video_only():
    model, given = transformer(), inputs()
    v, a = model(Task.T2AV.route.unconditional, *given)
    same = model(Task.T2AV.route.unconditional, *given, video_control=lambda _, x: x)
    tilt = torch.linspace(-1, 1, 48)  # a constant would not outlive the next LayerNorm
    other = model(Task.T2AV.route.unconditional, *given, video_control=lambda index, x: x + index * tilt)
    assert torch.equal(same[0], v) and torch.equal(other[1], a)
    assert not torch.allclose(other[0], v, atol=1e-3)


def test_gradient_checkpointing_gives_the_same_gradients():
    model, given, grads = transformer().train(), inputs(), []
    for checkpointing in (False, True):
        if checkpointing:
            model.enable_gradient_checkpointing()
        model.zero_grad()
        sum(part.square().mean() for part in model(Task.T2AV.route, *given)).backward()
        grads.append({name: parameter.grad.clone() for name, parameter in model.named_parameters()})
    for name, value in grads[0].items():
        torch.testing.assert_close(grads[1][name], value, rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


@torch.no_grad()
def test_the_repeated_blocks_compile_as_a_whole():
    model, given = transformer(), inputs()
    expected = model(Task.T2AV.route, *given)
    model.compile_repeated_blocks(backend="eager", fullgraph=True)
    for here, there in zip(model(Task.T2AV.route, *given), expected, strict=True):
        torch.testing.assert_close(here, there, rtol=1e-5, atol=1e-5)  # compiled ones have forms of their own


def test_every_parameter_learns_from_t2av():
    model, given = transformer(), inputs()
    sum(part.square().mean() for part in model(Task.T2AV.route, *given)).backward()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


@torch.no_grad()
def test_save_and_load_give_the_same_model(tmp_path):
    model, given = transformer(), inputs()
    model.save_pretrained(tmp_path)
    loaded = DualStreamTransformer.from_pretrained(tmp_path)
    assert loaded.config.context_tokens == 3
    read = loaded.state_dict()
    assert all(torch.equal(value, read[name]) for name, value in model.state_dict().items())
    for ours, theirs in zip(model(Task.T2AV.route, *given), loaded(Task.T2AV.route, *given), strict=True):
        assert torch.equal(ours, theirs)


def test_impossible_models_and_inputs_are_refused():
    with pytest.raises(ValueError, match="same depth: video 2 blocks, audio 3"):
        transformer(audio=CONFIG["audio"] | {"num_layers": 3})
    with pytest.raises(ValueError, match="token per latent"):
        transformer(video=CONFIG["video"] | {"patch_size": (2, 2, 2)})
    model, (video, audio) = transformer(), inputs()
    for task, given in ((Task.T2AV, (video, None)), (Task.A2V, (None, audio)), (Task.T2V, (None, audio))):
        with pytest.raises(ValueError, match="not given"):
            model(task.route, *given)
    with pytest.raises(ValueError, match=f"clock of 5 latents does not fit {TOKENS}"):
        embed(model.audio_stream, replace(audio, clock=LatentClock.at_rate(5, 25.0)))
    with pytest.raises(ValueError, match="clock of 8 latents does not fit 4"):
        embed(model.video_stream, replace(video, clock=LatentClock.causal_video(8, 16.0, 4)))


@torch.no_grad()
def test_a_sigma_per_frame_differs_from_its_mean_and_joins_samples_by_themselves():
    model, (video, audio) = transformer(), inputs()
    sigma = torch.tensor([[0.0, 0.7, 0.7, 0.7], [0.7, 0.7, 0.7, 0.7]])
    some_clean = model(Task.T2AV.route, replace(video, sigma=sigma), audio)
    none_clean = model(Task.T2AV.route, video, audio)
    for here, there in zip(some_clean, none_clean, strict=True):
        torch.testing.assert_close(here[1], there[1], rtol=0, atol=1e-5)
        assert not torch.allclose(here[0], there[0], atol=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("task", JOINT_TASKS)
def test_a_gpu_computes_what_a_cpu_does(task: Task) -> None:
    """Outputs and gradients of every task in fp32, with the given stream run in the pass and kept from before it."""
    device, found = torch.device("cuda"), {}
    for place in (torch.device("cpu"), device):
        model = transformer().to(place)
        given = [
            replace(part, latents=part.latents.to(place), sigma=part.sigma.to(place), text=part.text.to(place))
            for part in inputs()
        ]
        outputs = [part for part in model(task.route, *given) if part is not None]
        sum(part.square().mean() for part in outputs).backward()
        found[place] = [*outputs, *(p.grad for p in model.parameters() if p.grad is not None)]
        if task in (Task.A2V, Task.V2A):
            kept = {"a2v": "audio", "v2a": "video"}[task]
            with torch.no_grad():
                context = model.context(kept, given[kept == "audio"])
                cached = (given[0], context) if kept == "audio" else (context, given[1])
                found[place] += [part for part in model(task.route, *cached) if part is not None]
    right = [part.detach() for part in found[torch.device("cpu")]]
    size = max(float(part.abs().max()) for part in right)
    for one, other in zip(right, found[device], strict=True):
        torch.testing.assert_close(other.detach().cpu(), one, rtol=1e-3, atol=1e-4 * size)
