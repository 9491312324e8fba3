"""The variants that CCL is compared with: where they start, what they compute, what they learn and what they refuse."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest
import torch
from test_objective import FLOW, LOSS, MIXED, batch, loss_and_gradients
from test_sampler import guided, latents, sampler
from tiny import (
    AUDIO_CLOCK,
    CONFIG,
    FRAMES,
    SIDE,
    TOKENS,
    VIDEO_CLOCK,
    inputs,
    noise,
    randomise,
    rotary_arguments,
    transformer,
)

from ccl import guidance
from ccl.baselines import DenseContextAttention, FullTextAttention, Variant
from ccl.context_attention import VideoContextAttention
from ccl.guidance import Form, Guidance
from ccl.routing import Task
from ccl.tarp import align
from ccl.training.objective import JointObjective
from ccl.transformer import DualStreamTransformer, StreamInput, embed
from shared.nn.clock import LatentClock
from shared.nn.rope import grid_rotary, rotate, time_rotary
from shared.utils.errors import UserError

VARIANTS = {
    "gate_hard": {"fusion": "gate_hard"},
    "gate_learned": {"fusion": "gate_learned"},
    "gate_open": {"fusion": "gate_open"},
    "full_own": {"fusion": "full_own"},
    "full": {"fusion": "full"},
    "appended": {"fusion": "appended"},
    "index": {"positions": "index"},
    "scaled": {"positions": "scaled"},
    "in the window": {"positions": "window"},
    "no rotation": {"positions": "none"},
    "no partition": {"partition": False},
    "no partition, index": {"partition": False, "positions": "index"},
    "no LCT": {"context_tokens": 0},
    "no LCT, no partition": {"context_tokens": 0, "partition": False},
    "no DCR": {"routing": "joint"},
}
DYNAMIC = [name for name, changes in VARIANTS.items() if "routing" not in changes]
SPACE = (SIDE // 2) ** 2


def clean(given: StreamInput) -> StreamInput:
    return replace(given, sigma=torch.zeros_like(given.sigma))


def untrained(**changes) -> DualStreamTransformer:
    """Trained towers, whose zero-initialised weights are random, and a fusion as it starts."""
    torch.manual_seed(0)
    model = DualStreamTransformer(**(CONFIG | changes)).eval()
    for tower in (model.video_stream, model.audio_stream):
        randomise(tower)
    for block in model.blocks:
        randomise(block.video)
        randomise(block.audio)
    return model


def towers(model: DualStreamTransformer, video: StreamInput, audio: StreamInput) -> tuple[torch.Tensor, torch.Tensor]:
    """What each stream makes with nothing beside it."""
    sound = model.audio_stream(audio.latents.transpose(1, 2)[..., None, None], audio.sigma, audio.text, audio.clock)
    return model.video_stream(video.latents, video.sigma, video.text), sound[..., 0, 0].transpose(1, 2)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_parameter_learns_from_t2av(name):
    model = transformer(**VARIANTS[name])
    sum(part.square().mean() for part in model(Task.T2AV.route, *inputs())).backward()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any() or not p.grad.isfinite().all()]
    assert dead == []


@pytest.mark.parametrize("name", VARIANTS)
def test_an_untrained_variant_takes_a_step_with_finite_gradients(name):
    model = untrained(**VARIANTS[name]).train()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    loss = JointObjective(model, FLOW, LOSS, seed=7)(batch(["t2av", "a2v", "v2a"])).loss
    loss.backward()
    gradients = {n: p.grad for n, p in model.named_parameters()}
    assert all(value is not None and value.isfinite().all() for value in gradients.values())
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    for stream in ("fusion.video.", "fusion.audio."):
        assert any(not torch.equal(before[n], p) for n, p in model.named_parameters() if stream in n)


@torch.no_grad()
@pytest.mark.parametrize("changes", [{}, VARIANTS["gate_hard"], VARIANTS["gate_learned"], VARIANTS["full"]])
def test_before_training_a_stream_alone_is_its_tower_to_the_bit(changes):
    model, (video, audio) = untrained(**changes), inputs()
    v, a = towers(model, video, audio)
    assert v.std() > 0.1 and a.std() > 0.1
    assert torch.equal(model(Task.T2V.route, video, None)[0], v)
    assert torch.equal(model(Task.T2A.route, None, audio)[1], a)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "still"),
    [("cca", True), ("gate_learned", True), ("full_own", True), ("gate_hard", False), ("gate_open", False)],
)
def test_before_training_t2av_is_the_towers_to_the_bit_but_for_gates_that_are_open(name, still):
    model, given = untrained(fusion=name), inputs()
    for joined, alone in zip(model(Task.T2AV.route, *given), towers(model, *given), strict=True):
        assert torch.equal(joined, alone) == still


@torch.no_grad()
@pytest.mark.parametrize("name", ["gate_hard", "gate_learned", "full_own", "no LCT"])
def test_without_context_tokens_a_stream_alone_is_its_tower_after_training_too(name):
    model, given = transformer(**VARIANTS[name]), inputs()
    for joined, alone in zip(model(Task.T2AV.route.unconditional, *given), towers(model, *given), strict=True):
        assert torch.equal(joined, alone)
    assert model.blocks[0].fusion.video.unconditional(noise("x", 2, 8, 48)).ndim == 0  # nothing was computed


@torch.no_grad()
@pytest.mark.parametrize("stream", [0, 1])
def test_a_gate_is_its_attention_times_g(stream):
    """Of one block, because in the second one the gate of the other stream would act too."""
    sizes = {name: CONFIG[name] | {"num_layers": 1} for name in ("video", "audio")}
    hard, learned = (transformer(**sizes, fusion=f"gate_{kind}") for kind in ("hard", "learned"))
    cca = transformer(**sizes, context_tokens=0)
    weights = {n: p for n, p in learned.state_dict().items() if "alpha" not in n}
    hard.load_state_dict(weights)
    cca.load_state_dict(weights)
    given = inputs()
    route = Task.T2AV.route
    assert torch.equal(hard(route, *given)[stream], cca(route, *given)[stream])
    (learned.blocks[0].fusion.video, learned.blocks[0].fusion.audio)[stream].alpha.fill_(0.5)
    reader = (hard.blocks[0].fusion.video, hard.blocks[0].fusion.audio)[stream]
    for name in ("weight", "bias"):
        getattr(reader.to_out, name).mul_(torch.tanh(torch.tensor(0.5)))
    torch.testing.assert_close(learned(route, *given)[stream], hard(route, *given)[stream], rtol=0, atol=1e-5)


def test_a_hard_gate_that_starts_at_zero_is_ccl_without_context_tokens():
    """Model and steps are the same, to the bit, so that comparing with one is comparing with both."""
    gate, cca = untrained(fusion="gate_hard"), untrained(context_tokens=0)
    zeros = {name: torch.zeros_like(value) for name, value in gate.state_dict().items() if "to_out" in name}
    gate.load_state_dict(cca.state_dict() | {name: value for name, value in zeros.items() if "fusion" in name})
    for model in (gate, cca):
        loss = JointObjective(model, FLOW, LOSS, seed=7)(batch(["t2av", "a2v", "v2a", "t2v"])).loss
        loss.backward()
        torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert gate.state_dict().keys() == cca.state_dict().keys()
    assert all(torch.equal(value, cca.state_dict()[name]) for name, value in gate.state_dict().items())


def test_a_learned_gate_starts_where_it_is_told():
    """tanh(0.5) of the hard gate's update."""
    for fusion, alpha in (("gate_learned", 0.0), ("gate_open", 0.5)):
        block = untrained(fusion=fusion).blocks[0].fusion
        assert block.video.alpha.item() == block.audio.alpha.item() == alpha
        assert block.video.to_out.weight.any()  # behind a gate at zero it must not be zero too


@pytest.mark.parametrize("name", VARIANTS)
def test_a_micro_batch_is_the_mean_of_its_samples_alone(name):
    model = transformer(**VARIANTS[name])
    whole = batch(MIXED if name in DYNAMIC else ["v2a", "t2av", "a2v", "t2av"])
    loss, grads = loss_and_gradients(model, [whole])
    mean, apart = loss_and_gradients(model, [whole.take([i]) for i in range(len(whole.ids))])
    torch.testing.assert_close(loss, mean, rtol=0, atol=1e-5)
    assert set(grads) == set(apart)
    for parameter, value in grads.items():
        torch.testing.assert_close(value, apart[parameter], rtol=1e-3, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", DYNAMIC)
@pytest.mark.parametrize(("task", "stream"), [(Task.A2V, 1), (Task.V2A, 0)])
def test_a_kept_context_gives_what_one_pass_gives(name, task, stream):
    model, given = transformer(**VARIANTS[name]), list(inputs())
    given[stream] = clean(given[stream])
    together = model(task.route, *given)[1 - stream]
    other = list(inputs("b"))
    other[1 - stream] = given[1 - stream]
    other[stream] = clean(other[stream])
    assert not torch.allclose(model(task.route, *other)[1 - stream], together, atol=1e-3)  # it does read the stream
    given[stream] = model.context(("video", "audio")[stream], given[stream])
    torch.testing.assert_close(model(task.route, *given)[1 - stream], together, rtol=0, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("name", DYNAMIC)
def test_both_directions_read_the_states_from_before_the_step(name):
    """In a model of one block, what one stream makes of the other changes nothing of the other."""
    sizes = {stream: CONFIG[stream] | {"num_layers": 1} for stream in ("video", "audio")}
    model, given = transformer(**(VARIANTS[name] | sizes)), inputs()
    v, a = model(Task.T2AV.route, *given)
    model.blocks[0].fusion.video.to_v.weight.mul_(2)
    changed, same = model(Task.T2AV.route, *given)
    assert torch.equal(same, a) and not torch.allclose(changed, v, atol=1e-3)


@pytest.mark.parametrize("name", ["gate_learned", "full", "appended", "no partition"])
def test_gradient_checkpointing_gives_the_same_gradients(name):
    model, given, grads = transformer(**VARIANTS[name]).train(), inputs(), []
    for checkpointing in (False, True):
        if checkpointing:
            model.enable_gradient_checkpointing()
        model.zero_grad()
        sum(part.square().mean() for part in model(Task.T2AV.route, *given)).backward()
        grads.append({n: p.grad.clone() for n, p in model.named_parameters()})
    for parameter, value in grads[0].items():
        torch.testing.assert_close(grads[1][parameter], value, rtol=1e-5, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("scale", [1.0, 6.25])
@pytest.mark.parametrize("index", [False, True])
def test_without_a_partition_every_pair_is_seen_at_its_difference_in_time(scale, index):
    positions = "index" if index else "aligned"
    model, given = transformer(partition=False, cca_time_scale=scale, positions=positions), inputs()
    rotary = rotary_arguments(model, *given)
    frame = torch.arange(FRAMES).repeat_interleave(SPACE)
    position = torch.arange(TOKENS) if index else scale * VIDEO_CLOCK.position(AUDIO_CLOCK.centres)
    difference = position[None] - (1.0 if index else scale) * frame[:, None]  # [F·S, A]
    x, y = noise("x", 2, FRAMES * SPACE, 48), noise("y", 2, TOKENS, 36)
    fusion = model.blocks[0].fusion
    for cca, own, other, places, turn in (
        (fusion.video, x, y, rotary[0], difference), (fusion.audio, y, x, rotary[1], -difference.T),
    ):  # fmt: skip
        assert isinstance(cca, DenseContextAttention)
        q, (k, v), (context_k, context_v) = cca.queries(own), cca.key_value(other), cca._key_value(cca.context_tokens)
        turned = rotate(k[:, None], time_rotary(turn, CONFIG["cca_head_dim"]))  # every key for every query
        logits = torch.einsum("bnhd,bnmhd->bhnm", q, turned)
        logits = torch.cat([torch.einsum("bnhd,lhd->bhnl", q, context_k), logits], -1) / q.shape[-1] ** 0.5
        values = torch.cat([context_v.expand(len(own), -1, -1, -1), v], 1)
        expected = cca.to_out(torch.einsum("bhnm,bmhd->bnhd", logits.softmax(-1), values).flatten(2))
        assert expected.std() > 0.05
        found = cca(own, cca.key_value(other), **places)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_clip_of_one_frame_has_no_partition_to_lose():
    video, audio = inputs()
    clock = LatentClock.causal_video(1, 16.0, 4)
    video = replace(video, latents=video.latents[:, :, :1], clock=clock)
    audio = replace(audio, latents=audio.latents[:, :3], clock=LatentClock.at_rate(3, 25.0))
    outputs = [transformer(partition=partition)(Task.T2AV.route, video, audio) for partition in (True, False)]
    for whole, parted in zip(*outputs, strict=True):
        torch.testing.assert_close(whole, parted, rtol=0, atol=1e-5)


@torch.no_grad()
def test_at_index_positions_a_late_sound_is_where_an_early_one_is():
    """Within a token, so that the partition stays; aligned positions see it."""
    video, audio = inputs()
    moved = replace(audio, clock=audio.clock.shifted(1e-3))
    here, there = (align(video.clock, one.clock, window_from="counts") for one in (audio, moved))
    assert torch.equal(here.window, there.window) and torch.equal(here.frame, there.frame)
    for positions, same in (("index", True), ("aligned", False)):
        model = transformer(positions=positions, cca_time_scale=6.25)
        seen = [model(Task.A2V.route, video, model.context("audio", clean(sound)))[0] for sound in (audio, moved)]
        # the audio stream's own positions moved as well; they are relative, and change it by rounding only
        assert torch.allclose(*seen, atol=1e-5) == same
    places, _ = rotary_arguments(transformer(positions="index", cca_time_scale=6.25), video, audio)
    expected = here.window - torch.arange(FRAMES)[:, None]
    torch.testing.assert_close(places["rotary"], time_rotary(expected, CONFIG["cca_head_dim"]))


@torch.no_grad()
def test_scaled_indices_are_in_the_videos_unit_and_keep_the_time_scale():
    """Token j at j·F/A, from the first frame's 0 to near F, against aligned positions by the clocks."""
    model, given = transformer(positions="scaled", cca_time_scale=6.25), inputs()
    here = align(VIDEO_CLOCK, AUDIO_CLOCK, window_from="counts")
    token = torch.arange(TOKENS).double() * FRAMES / TOKENS
    video, audio = rotary_arguments(model, *given)
    expected = token[here.window] - torch.arange(FRAMES)[:, None]
    torch.testing.assert_close(video["rotary"], time_rotary(6.25 * expected, CONFIG["cca_head_dim"]))
    torch.testing.assert_close(audio["rotary"], time_rotary(6.25 * (token - here.frame), CONFIG["cca_head_dim"]))


@torch.no_grad()
def test_positions_in_the_window_and_none():
    given, here = inputs(), align(VIDEO_CLOCK, AUDIO_CLOCK, window_from="counts")
    video, audio = rotary_arguments(transformer(positions="window"), *given)
    ranks = torch.arange(here.window.shape[1]).expand_as(here.window)
    torch.testing.assert_close(video["rotary"], time_rotary(ranks, CONFIG["cca_head_dim"]))
    frame = here.frame.tolist()
    own = torch.tensor([j - frame.index(i) for j, i in enumerate(frame)])
    assert own.max() > 1
    torch.testing.assert_close(audio["rotary"], time_rotary(own, CONFIG["cca_head_dim"]))
    for places in rotary_arguments(transformer(positions="none"), *given):
        assert torch.equal(places["rotary"], torch.ones_like(places["rotary"]))


@torch.no_grad()
def test_full_attention_of_its_own_has_ovis_keys_and_places_and_its_own_projections():
    model, given = transformer(fusion="full_own"), inputs()
    rotary = rotary_arguments(model, *given)
    x, y = noise("x", 2, FRAMES * SPACE, 48), noise("y", 2, TOKENS, 36)
    cca, dim = model.blocks[0].fusion.video, CONFIG["cca_head_dim"]
    q, (k, v) = cca.queries(x), cca.key_value(y)
    turned = rotate(q, grid_rotary(FRAMES, SIDE // 2, SIDE // 2, dim)[0])
    keys = rotate(k, time_rotary(torch.arange(TOKENS) * FRAMES / TOKENS, dim))
    expected = cca.to_out(softmax_attention(turned, keys, v).flatten(2))
    torch.testing.assert_close(cca(x, cca.key_value(y), **rotary[0]), expected, rtol=0, atol=1e-5)
    assert model.has_unconditional and not cca.num_context_tokens


def text_qkv(model: DualStreamTransformer, stream: str, x: torch.Tensor, text: torch.Tensor):
    """Queries, and keys and values of the text, of the first block's text attention."""
    block = getattr(model.blocks[0], stream)
    attn = block.attn2
    heads = attn.heads
    q = attn.norm_q(attn.to_q(block.norm2(x))).unflatten(2, (heads, -1))
    return q, attn.norm_k(attn.to_k(text)).unflatten(2, (heads, -1)), attn.to_v(text).unflatten(2, (heads, -1))


def softmax_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    weights = (torch.einsum("bnhd,bmhd->bhnm", q, k) / q.shape[-1] ** 0.5).softmax(-1)
    return torch.einsum("bhnm,bmhd->bnhd", weights, v)


@torch.no_grad()
@pytest.mark.parametrize("fusion", ["full", "appended"])
@pytest.mark.parametrize("stream", ["video", "audio"])
def test_in_the_text_attentions_place_is_its_formula(fusion, stream):
    """On the states before the text attention, of both streams, and through its own query and output projections."""
    model, given = transformer(fusion=fusion), inputs()
    first = embed(model.video_stream, given[0]), embed(model.audio_stream, given[1])
    joint = model.blocks[0]
    states = joint.video.attend_self(first[0]), joint.audio.attend_self(first[1])
    own, other = states if stream == "video" else states[::-1]
    reader, block = getattr(joint.fusion, stream), getattr(joint, stream)
    q, text_k, text_v = text_qkv(model, stream, own.x, own.text)
    k, v = reader.key_value(other.x)
    if fusion == "full":
        dim = q.shape[-1]
        video = grid_rotary(FRAMES, SIDE // 2, SIDE // 2, dim)[0]
        audio = time_rotary(torch.arange(TOKENS) * FRAMES / TOKENS, dim)
        turns = (video, audio) if stream == "video" else (audio, video)
        inner = softmax_attention(q, text_k, text_v)
        inner = inner + softmax_attention(rotate(q, turns[0]), rotate(k, turns[1]), v)
    else:
        inner = softmax_attention(q, torch.cat([text_k, k], 1), torch.cat([text_v, v], 1))
    expected = block.feed_forward(own.with_x(own.x + block.attn2.to_out[0](inner.flatten(2))))
    after = joint(*first, Task.T2AV.route, rotary_arguments(model, *given))[0 if stream == "video" else 1]
    assert (expected.x - own.x).std() > 0.1
    torch.testing.assert_close(after.x, expected.x, rtol=0, atol=1e-5)


@torch.no_grad()
def test_an_appended_streams_zeros_are_one_zero_token():
    model, (video, audio) = transformer(fusion="appended"), inputs()
    reader, x = model.blocks[0].fusion.video, noise("x", 2, FRAMES * SPACE, 48)
    own = text_qkv(model, "video", x, model.video_stream.embed(video.latents, video.sigma, video.text).text)
    zeros = torch.zeros(2, 1, 36)
    assert torch.equal(reader.unconditional(*own), reader(*own, reader.key_value(zeros)))
    assert not torch.allclose(reader.unconditional(*own), softmax_attention(*own), atol=1e-3)
    alone = [model(Task.T2AV.route.unconditional, video, sound)[0] for sound in (audio, inputs("b")[1])]
    assert torch.equal(*alone) and torch.equal(alone[0], model(Task.T2V.route, video, None)[0])


def test_baselines_share_the_text_attentions_queries_and_output():
    names = {name.split(".")[4] for name, _ in transformer(fusion="full").named_parameters() if ".fusion." in name}
    assert names == {"norm_y", "to_k", "to_v", "norm_k"}


@torch.no_grad()
@pytest.mark.parametrize(("task", "made"), [(Task.A2V, 0), (Task.V2A, 1)])
def test_without_dcr_the_clean_stream_reads_the_noisy_one(task, made):
    given, others = list(inputs()), list(inputs("b"))
    given[1 - made] = others[1 - made] = clean(given[1 - made])
    for routing, depends in (("dynamic", False), ("joint", True)):
        model, states = transformer(routing=routing), []
        tower = (model.audio_stream, model.video_stream)[made]
        hook = tower.blocks[-1].ffn.register_forward_pre_hook(lambda _, args, kept=states: kept.append(args[0]))
        outputs = [model(task.route, *streams) for streams in (given, others)]
        hook.remove()
        assert torch.allclose(*states, atol=1e-4) != depends
        assert all(output[1 - made] is None for output in outputs)
    joint, dynamic = (transformer(routing=routing)(task.route, *given)[made] for routing in ("joint", "dynamic"))
    assert not torch.allclose(joint, dynamic, atol=1e-4)


@torch.no_grad()
def test_without_dcr_the_sampler_runs_the_clean_stream_in_every_step():
    model, given = transformer(routing="joint"), {"audio": latents("y")["audio"]}
    model.context = None  # not to be called
    one = sampler(model, Task.A2V, Guidance(Form.TEXT, (3.0, 3.0)), given)
    sigma = {"video": 0.7, "audio": 0.6}
    first, later = (one.velocity({"video": latents(name)["video"]}, sigma)["video"] for name in ("x", "z"))
    assert not torch.allclose(first, later, atol=1e-3)
    text, empty = one.conditions.texts["video"], one.conditions.negative
    level = torch.full((2, FRAMES), 0.7), torch.zeros(2, 1)
    parts = [
        model(
            Task.A2V.route,
            StreamInput(latents("x")["video"], level[0], told, VIDEO_CLOCK),
            StreamInput(given["audio"], level[1], told, AUDIO_CLOCK),
        )[0]
        for told in (text, empty)
    ]
    torch.testing.assert_close(first, parts[1] + 3 * (parts[0] - parts[1]), rtol=0, atol=1e-4)


def test_without_dcr_no_stream_is_alone():
    model, (video, audio) = transformer(routing="joint"), inputs()
    for route in (Task.T2V.route, Task.T2A.route, Task.T2AV.route.unconditional):
        with pytest.raises(UserError, match="take t2av, a2v or v2a"):
            model(route, video, audio)
    with pytest.raises(UserError, match="t2v"):
        model.denoise_video(video.latents, video.sigma, video.text, VIDEO_CLOCK)
    with pytest.raises(ValueError, match="every step"):
        model.context("audio", audio)


@pytest.mark.parametrize("name", ["full", "appended", "no DCR"])
def test_guidance_by_0m_is_refused_where_there_is_none(name):
    model = transformer(**VARIANTS[name])
    for form in (Form.DUAL, Form.JOINT, Form.CONTEXT):
        with pytest.raises(UserError, match=f"guidance {form} compares with 0m.*take text"):
            guided(model, Task.T2AV, form)
    assert guided(model, Task.T2AV, Form.TEXT)[1] == 2 and guided(model, Task.T2AV, Form.NONE)[1] == 1


@pytest.mark.parametrize("name", ["full", "appended", "no DCR"])
def test_guidance_that_was_not_chosen_is_by_text_there_and_says_so_once(name, caplog):
    guidance._say_text_only.cache_clear()
    model = transformer(**VARIANTS[name])
    with caplog.at_level(logging.WARNING, "ccl.guidance"):
        found, calls = guided(model, Task.T2AV, None, (3.0, 2.0))
        guided(model, Task.T2AV, None, (3.0, 2.0))
    assert [record.message for record in caplog.records] == [
        "the model has no state 0m to be guided by: guidance is text, with the same text scale and no context scale"
    ]
    expected, _ = guided(model, Task.T2AV, Form.TEXT, (3.0, 2.0))
    assert calls == 2 and all(torch.equal(found[stream], value) for stream, value in expected.items())


@pytest.mark.parametrize("name", ["full", "gate_hard"])
def test_a_stream_alone_is_guided_by_text_in_every_form(name, caplog):
    model = transformer(**VARIANTS[name])
    results = [guided(model, Task.T2V, form, (3.0, 3.0))[0]["video"] for form in (None, Form.DUAL, Form.TEXT)]
    assert torch.equal(results[0], results[1]) and torch.equal(results[1], results[2]) and not caplog.records


def test_gates_and_cca_are_guided_by_0m():
    for name in ("gate_hard", "gate_learned", "full_own", "no partition", "no LCT", "index", "scaled"):
        assert guided(transformer(**VARIANTS[name]), Task.T2AV, None)[1] == 3


@torch.no_grad()
@pytest.mark.parametrize("name", VARIANTS)
def test_save_and_load_keep_the_variant(name, tmp_path):
    model, given = transformer(**VARIANTS[name]), inputs()
    model.save_pretrained(tmp_path)
    loaded = DualStreamTransformer.from_pretrained(tmp_path)
    assert loaded.variant == model.variant == Variant(**{k: v for k, v in VARIANTS[name].items() if "tokens" not in k})
    for key in ("fusion", "positions", "partition", "routing", "context_tokens"):
        assert loaded.config[key] == model.config[key]
    for ours, theirs in zip(model(Task.T2AV.route, *given), loaded(Task.T2AV.route, *given), strict=True):
        assert torch.equal(ours, theirs)


@torch.no_grad()
def test_a_checkpoint_from_before_there_were_variants_is_ccl(tmp_path):
    model, given = transformer(), inputs()
    model.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    for key in ("fusion", "positions", "partition", "routing"):
        del config[key]
    file.write_text(json.dumps(config))
    loaded = DualStreamTransformer.from_pretrained(tmp_path)
    assert loaded.variant == Variant() and type(loaded.blocks[0].fusion.video) is VideoContextAttention
    for ours, theirs in zip(model(Task.T2AV.route, *given), loaded(Task.T2AV.route, *given), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fusion": "gate"}, "fusion is 'gate'; choose one of cca, gate_hard, gate_learned, gate_open, full_own"),
        ({"positions": "naive"}, "positions is 'naive'; choose one of aligned, index, scaled, window, none"),
        ({"partition": "no"}, "partition is 'no'; choose one of True, False"),
        ({"routing": "none"}, "routing is 'none'; choose one of dynamic, joint"),
        ({"fusion": "full", "partition": False}, "varied with fusion cca, not full"),
        ({"fusion": "gate_hard", "positions": "index"}, "varied with fusion cca, not gate_hard"),
        ({"positions": "none", "partition": False}, "positions none are those of a partition"),
    ],
)
def test_variants_that_there_are_not_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        transformer(**changes)


def test_ovis_keys_are_turned_for_the_heads_of_the_reader():
    """The towers of the tests have heads of different size."""
    model, given = transformer(fusion="full"), inputs()
    parts = [part for places in rotary_arguments(model, *given) for part in places.values()]
    assert isinstance(model.blocks[0].fusion.video, FullTextAttention)
    assert [part.shape[-1] * 2 for part in parts] == [24, 24, 12, 12]
    assert [len(part) for part in parts] == [FRAMES * SPACE, TOKENS, TOKENS, FRAMES * SPACE]
