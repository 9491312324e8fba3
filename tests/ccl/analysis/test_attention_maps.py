"""Recorded attention: the weights that were used, their shares by time and place, and their maps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from test_context_attention import DIM, attention, clocks, turned
from test_loss_probes import FLOW, batch
from tiny import CONFIG, FRAMES, TOKENS, inputs, transformer

from ccl.analysis.attention_maps import (
    SHARES,
    AttentionProbe,
    AttentionWeights,
    Sounding,
    audio_weights,
    draw_maps,
    even,
    recording,
    same_time,
    shares,
    sounding_tokens,
    video_weights,
    weights_of,
)
from ccl.baselines import FullTextAttention, TextPlaceAttention
from ccl.context_attention import AudioContextAttention, VideoContextAttention
from ccl.routing import Task
from ccl.tarp import align
from shared.codecs import LinearVideoCodec
from shared.encoders.timed_prompts import TimedPrompts
from shared.evaluation.leakage import sounding_region
from shared.nn.attention import attend
from shared.nn.clock import LatentClock
from shared.nn.rope import time_rotary
from shared.nn.timed_text import text_over_time
from shared.puppets.clip import render_clip, sample_spec

SPACE = 4  # 4x4 latents in patches of 2x2


def dense(cca, x, k, mask, difference) -> torch.Tensor:
    """[B, N, L+M] by masking all pairs; difference [N, M] is the time by which a key is turned before it is met."""
    q, (own, _) = cca.queries(x), cca._key_value(cca.context_tokens)
    keys = turned(k[:, None].expand(-1, len(mask), -1, -1, -1), difference)
    logits = torch.einsum("bnhd,bnmhd->bhnm", q, keys).masked_fill(~mask, -torch.inf)
    return (torch.cat([torch.einsum("bnhd,lhd->bhnl", q, own), logits], -1) / DIM**0.5).softmax(-1).mean(1)


@torch.no_grad()
@pytest.mark.parametrize(("frames", "tokens"), [(5, 33), (7, 12), (3, 2)])
def test_weights_are_those_of_a_dense_reference(frames, tokens):
    video, audio = clocks(frames, tokens)
    found = align(video, audio)
    position = video.position(audio.centres)
    x, y = torch.randn(2, frames * SPACE, 10), torch.randn(2, tokens, 14)
    frame = torch.arange(frames).repeat_interleave(SPACE)
    cca = attention(VideoContextAttention)
    made = video_weights(cca, x, cca.key_value(y), found, time_rotary(found.window_offset, DIM))
    mask = found.video_reads(tokens).repeat_interleave(SPACE, 0)
    expected = dense(cca, x, cca.key_value(y)[0], mask, position[None] - frame[:, None])
    torch.testing.assert_close(torch.cat([made.context, made.other], -1), expected, rtol=0, atol=1e-6)
    cca = attention(AudioContextAttention, 14, 10)
    made = audio_weights(cca, y, cca.key_value(x), found, time_rotary(found.offset, DIM))
    mask = found.audio_reads().repeat_interleave(SPACE, 1)
    expected = dense(cca, y, cca.key_value(x)[0], mask, frame[None] - position[:, None])  # turning the key back instead
    torch.testing.assert_close(torch.cat([made.context, made.other], -1), expected, rtol=0, atol=1e-6)


ONE_HEAD = {
    "cca_heads": 1,
    "video": CONFIG["video"] | {"num_attention_heads": 1, "attention_head_dim": 48},
    "audio": CONFIG["audio"] | {"num_attention_heads": 1, "attention_head_dim": 36},
}
VARIANTS = [
    {}, {"partition": False}, {"positions": "index"}, {"context_tokens": 0}, {"fusion": "gate_hard"},
    {"fusion": "gate_learned"}, {"fusion": "full_own"}, {"fusion": "full"}, {"fusion": "appended"},
    {"routing": "joint"},
]  # fmt: skip


def remade(direction, weights: AttentionWeights, own, key_value) -> torch.Tensor:
    """A direction's update, from the recorded weights of its one head and its values."""
    v = key_value[1]
    if isinstance(direction, TextPlaceAttention):
        q, text_k, text_v = own
        full = isinstance(direction, FullTextAttention)
        text = attend(q, text_k, text_v)[:, :, 0] if full else weights.text @ text_v[:, :, 0]
        return (text + weights.other @ v[:, :, 0])[:, :, None]
    gate = torch.tanh(direction.alpha) if hasattr(direction, "alpha") else 1.0
    context = direction._key_value(direction.context_tokens)[1]
    return gate * direction.to_out(weights.context @ context[:, 0] + weights.other @ v[:, :, 0])


@torch.no_grad()
@pytest.mark.parametrize("fusion", ["full", "appended"])
def test_weights_of_texts_over_time_are_those_of_the_query(fusion):
    direction = transformer(fusion=fusion).blocks[0].fusion.audio
    heads, width = direction.heads, direction.head_dim
    q, k, other = (torch.randn(2, n, heads, width) for n in (TOKENS, 3, 6))
    prompts = [TimedPrompts((0.0, 0.4), ("a", "b")), TimedPrompts.of("b")]
    text = text_over_time(prompts, LatentClock.at_rate(TOKENS, 25.0), lambda texts: torch.randn(len(texts), 3, width))
    rotary = time_rotary(torch.arange(TOKENS).double(), width), time_rotary(torch.arange(6).double(), width)
    turned = dict(zip(("query_rotary", "key_rotary"), rotary, strict=True)) if fusion == "full" else {}
    made = weights_of(direction, q, k, k, key_value=(other, other), route=text.route, **turned)
    torch.testing.assert_close(made.text.sum(-1) + made.other.sum(-1), torch.ones(2, TOKENS))
    for sample, row, tokens in ((0, 0, slice(0, 10)), (0, 1, slice(10, None)), (1, 1, slice(None))):
        own = k[[row, row]]  # as if it were read all the time
        alone = weights_of(direction, q, own, own, key_value=(other, other), **turned)
        for part in ("text", "other"):
            found, expected = (getattr(one, part)[sample, tokens] for one in (made, alone))
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_recorded_weights_make_the_update_and_the_output_stays_as_it_was(variant):
    model = transformer(**ONE_HEAD | variant)
    before = model(Task.T2AV.route, *inputs())
    calls: dict[str, list] = {"video": [], "audio": []}
    for stream, made in calls.items():

        def spy(direction, own, given, update, made=made):
            made.append((direction, own, given["key_value"], update))

        for block in model.blocks:
            getattr(block.fusion, stream).register_forward_hook(spy, with_kwargs=True)
    with recording(model) as kept:
        during = model(Task.T2AV.route, *inputs())
    assert all(torch.equal(a, b) for a, b in zip(before, during, strict=True))
    for stream, made in calls.items():
        recorded = kept[stream]
        assert len(recorded) == len(made) == 2
        for weights, (direction, own, key_value, update) in zip(recorded, made, strict=True):
            torch.testing.assert_close(remade(direction, weights, own, key_value), update, rtol=0, atol=1e-5)
            total = weights.context.sum(-1) + weights.text.sum(-1) + weights.other.sum(-1)
            torch.testing.assert_close(total, torch.ones_like(total))
            assert not weights.other[:, ~weights.visible].any()


def test_an_unknown_fusion_is_named():
    with pytest.raises(TypeError, match="Linear"):
        weights_of(torch.nn.Linear(1, 1), torch.zeros(1))


@torch.no_grad()
def test_recording_ends_with_its_block():
    model = transformer()
    with recording(model) as kept:
        model(Task.T2V.route, inputs()[0], None)
        model(Task.A2V.route, *inputs())
    model(Task.T2AV.route, *inputs())
    assert (len(kept["video"]), len(kept["audio"])) == (2, 0)
    assert not model.blocks[0].fusion.video._forward_pre_hooks


def test_shares_of_weights_made_by_hand():
    weights = AttentionWeights(
        context=torch.tensor([[[0.25, 0.25], [0.0, 0.5]]]),
        text=torch.tensor([[[0.1], [0.0]]]),
        other=torch.tensor([[[0.1, 0.3, 0.0, 0.0], [0.0, 0.1, 0.4, 0.0]]]),
        visible=torch.tensor([[1, 1, 0, 0], [0, 1, 1, 0]]).bool(),
    )
    right = torch.tensor([[1, 0, 0, 0], [0, 1, 1, 0]]).bool()
    found = shares(weights, right, torch.tensor([[False, True, False, True]]))
    expected = torch.tensor([[[0.5, 0.1, 0.4, 0.3, 0.1, 0.3], [0.5, 0.0, 0.5, 0.4, 0.5, 0.1]]])
    torch.testing.assert_close(found, expected)
    spread = even(weights)
    torch.testing.assert_close(spread.other[0, 0], torch.tensor([0.2, 0.2, 0, 0]))
    assert float(spread.context.sum()) == pytest.approx(2 * 0.4)


def test_latents_share_time_or_not():
    video, audio = LatentClock.causal_video(2, 10.0, 4), LatentClock.at_rate(6, 12.0)  # 0, .1, .5; steps of 1/12
    assert same_time(video, audio).int().tolist() == [[1, 1, 0, 0, 0, 0], [0, 1, 1, 1, 1, 1]]


def test_tokens_that_sound_are_those_of_the_truth():
    spec = next(s for s in (sample_spec(3, i) for i in range(50)) if s.characters and s.props)
    truth, data = render_clip(spec).truth, batch("a", "b")
    begin = min([c.syllables[0].start for c in spec.characters if c.syllables] + [p.onsets[0] for p in spec.props])
    found = sounding_tokens(data, [(truth, begin - 0.21), (truth, 100.0)], (64, 64), 64)
    region = torch.from_numpy(sounding_region([truth], (64, 64)))
    (video_not, video), (audio_not, audio) = found["video"], found["audio"]
    place = video[0].view(FRAMES, 8, 8)
    assert torch.equal(place[0], place[-1]) and place.any() and not place.all()
    cells = region.view(8, 8, 8, 8).float().mean((1, 3))
    assert torch.equal(place[0], cells >= 0.2) and torch.equal(video_not[0].view(FRAMES, 8, 8)[0], cells == 0)
    assert audio[0].nonzero()[0] == 5  # 25 tokens a second
    assert not audio[1].any() and torch.equal(audio_not, ~audio)


def halves() -> Sounding:
    video, audio = torch.zeros(2, FRAMES * SPACE, dtype=torch.bool), torch.zeros(2, TOKENS, dtype=torch.bool)
    video[:, ::2], audio[0, :5] = True, True
    return {"video": (~video, video), "audio": (~audio, audio)}


def test_the_probe_pools_queries_by_kind():
    model = transformer()
    probe = AttentionProbe(model, FLOW, (0.3, 0.7), seed=1)
    maps = probe.add(batch("a", "b"), halves())
    told = probe.summary()
    for stream in ("video", "audio"):
        for part in (told[stream], *told[stream]["blocks"], *told[stream]["levels"]):
            for kind in ("background", "foreground"):
                values = part[kind]
                assert values["lct"] + values["text"] + values["other"] == pytest.approx(1)
                assert 0 < values["last"] < values["other"] and values["text"] == 0
                assert values["right_time"] <= values["other"] + 1e-6
        assert told[stream]["background"]["lct"] == pytest.approx(
            sum(block["background"]["lct"] for block in told[stream]["blocks"]) / 2
        )
    assert [level["u"] for level in told["video"]["levels"]] == [0.3, 0.7]
    assert len(maps) == 2 and maps[0]["received"].shape == maps[0]["lct"].shape == (FRAMES, 2, 2)
    assert 0 < float(maps[1]["lct"].mean()) < 1
    again = AttentionProbe(model, FLOW, (0.3, 0.7), seed=1)
    again.add(batch("a", "b"), halves())
    assert again.summary() == told


def test_who_prefers_nothing_spreads_evenly():
    model = transformer()
    with torch.no_grad():
        for cca in (part for block in model.blocks for part in (block.fusion.video, block.fusion.audio)):
            cca.to_q.weight.zero_()
            cca.to_q.bias.zero_()
    probe = AttentionProbe(model, FLOW, (0.5,), seed=1)
    probe.add(batch("a", "b"), halves())
    for stream in probe.summary().values():
        for kind in ("background", "foreground"):
            even_spread = stream[kind].pop("even")
            assert stream[kind] == pytest.approx(even_spread, abs=1e-6) and set(even_spread) == set(SHARES)


def test_kinds_that_are_not_there_have_no_shares():
    probe = AttentionProbe(transformer(), FLOW, (0.5,), seed=1)
    probe.add(batch("a", "b"), {stream: (away, here & False) for stream, (away, here) in halves().items()})
    told = probe.summary()
    assert told["video"]["foreground"]["lct"] is None and told["audio"]["background"]["lct"] > 0
    assert told["video"]["background"]["sounding"] == 0


def test_a_picture_is_drawn(tmp_path: Path):
    codec = LinearVideoCodec(latent_channels=4)
    layer = torch.rand(FRAMES, 2, 2)
    maps = {"lct": layer, "last": 0 * layer, "right_time": layer, "received": layer}
    path = draw_maps(tmp_path, batch("x/y", "b"), 0, maps, codec, 16.0)
    assert path.name == "x_y.png" and [file.name for file in tmp_path.iterdir()] == ["x_y.png"]
    assert min(Image.open(path).size) > 300
