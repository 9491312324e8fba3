"""MST-ControlNet: identities of the whole network on Wan-shaped streams, and what each switch leaves."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ccl.routing import Task
from ccl.transformer import DualStreamTransformer, StreamInput
from mtv.control import MSTControlNet, TrackFeatures, trainable_backbone_parameters
from shared.nn.clock import LatentClock
from shared.nn.dit import DiTStream, StreamConfig
from shared.utils.rng import generator

FRAMES, LATENTS, WIDTH, TOKENS = 13, 4, 48, 3
SIZES = {"speech": (5, 2, 6), "effects": (3, 2, 5), "music": (1, 1, 8)}
VIDEO = {
    "in_channels": 4, "num_attention_heads": 2, "attention_head_dim": 24, "num_layers": 2, "ffn_dim": 64,
    "text_dim": 12, "freq_dim": 32,
}  # fmt: skip
VARIANTS = [{}, {"SE": False}, {"SI": False}]


def noise(name, *shape):
    return torch.randn(shape, generator=generator(0, "tests", name))


def randomise(module, keep="never"):
    """Random values where a weight starts at zero, so that no path is dead."""
    for name, parameter in module.named_parameters():
        if not parameter.any() and keep not in name:
            nn.init.normal_(parameter, std=0.3, generator=generator(0, "weights", name))
    return module.eval().requires_grad_(False)


def fresh(**changes):
    """An untrained network."""
    torch.manual_seed(0)
    sizes = {"token_dim": 16, "tokens": TOKENS, "interaction_blocks": 2, "heads": 2, "ffn_dim": 24, "hidden_dim": 20}
    return MSTControlNet(
        **({"backbone_dim": WIDTH, "backbone_heads": 2, "num_blocks": 2, "tracks": SIZES} | sizes | changes)
    )


def network(**changes):
    return randomise(fresh(**changes))


def stream():
    torch.manual_seed(1)
    return randomise(DiTStream(StreamConfig(**VIDEO)))


def features(name="a", batch=2, voices=2, frames=FRAMES, **more):
    speech = noise(f"speech{name}", batch, voices, frames, *SIZES["speech"])
    effects, music = (noise(f"{track}{name}", batch, frames, *SIZES[track]) for track in ("effects", "music"))
    return TrackFeatures(speech, effects, music, **more)


def hidden(name="x", batch=2):
    """Hidden states of LATENTS frames of 6 tokens."""
    return noise(name, batch, LATENTS * 6, WIDTH)


def injected(net, given, sigma=(0.7, 0.7), block=0, x=None):
    """What `net` makes of the hidden states, [B, F, S, D]."""
    x = hidden(batch=len(given.effects)) if x is None else x
    return net(given, torch.tensor(sigma[: len(given.effects)]))(block, x).unflatten(1, (LATENTS, -1))


def differs(a, b, atol=1e-3):
    return not torch.allclose(a, b, atol=atol)


@pytest.mark.parametrize("switches", VARIANTS)
def test_an_untrained_network_leaves_a_stream_as_it_was_to_the_bit(switches):
    tower, control = stream(), fresh(**switches).eval()(features(), torch.tensor([0.2, 0.9]))
    given = noise("latents", 2, 4, LATENTS, 4, 4), torch.tensor([0.2, 0.9]), noise("text", 2, 3, 12)
    alone = tower(*given)
    assert alone.std() > 0.1
    assert torch.equal(tower(*given, control=control), alone)
    trained = network(**switches)(features(), torch.tensor([0.2, 0.9]))
    assert differs(tower(*given, control=trained), alone)


def test_an_untrained_network_leaves_both_streams_of_the_joint_model_as_they_were_to_the_bit():
    torch.manual_seed(2)
    model = randomise(DualStreamTransformer(VIDEO, VIDEO | {"time_unit": 0.25}, cca_heads=2, cca_head_dim=16))
    text, sigma = noise("text", 2, 3, 12), torch.tensor([0.2, 0.9])
    latents = noise("latents", 2, 4, LATENTS, 4, 4)
    video = StreamInput(latents, sigma, text, LatentClock.causal_video(LATENTS, 16.0, 4))
    audio = StreamInput(noise("audio", 2, 21, 4), sigma, text, LatentClock.at_rate(21, 25.0))
    alone = model(Task.T2AV.route, video, audio)
    controlled = model(Task.T2AV.route, video, audio, fresh().eval()(features(), sigma))
    assert all(torch.equal(a, b) and a.std() > 0.1 for a, b in zip(alone, controlled, strict=True))
    assert differs(model(Task.T2AV.route, video, audio, network()(features(), sigma))[0], alone[0])


@pytest.mark.parametrize("per_frame", [False, True])
@pytest.mark.parametrize("switches", VARIANTS)
def test_a_batch_is_its_samples_alone(switches, per_frame):
    """Noise levels, silence, absent speakers and dropped tracks mixed, through a whole stream."""
    net, tower = network(**switches), stream()
    drop = {"speech": [False, False, True], "effects": [True, False, False], "music": [False, True, False]}
    drop = {name: torch.tensor(rows) for name, rows in drop.items()}
    batch = features(batch=3, speakers=torch.tensor([[True, True], [True, False], [True, True]]), drop=drop)
    batch.speech[0, 1] = 0.0
    batch.effects[1] = 0.0
    sigma = noise("sigma", 3, LATENTS).sigmoid() if per_frame else torch.tensor([0.1, 0.6, 1.0])
    latents, text = noise("latents", 3, 4, LATENTS, 4, 4), noise("text", 3, 3, 12)
    together = tower(latents, sigma, text, control=net(batch, sigma))
    for i, row in enumerate(together):
        one = slice(i, i + 1)
        single = TrackFeatures(
            *(part[one] for part in (batch.speech, batch.effects, batch.music, batch.speakers)),
            {name: rows[one] for name, rows in drop.items()},
        )
        alone = tower(latents[one], sigma[one], text[one], control=net(single, sigma[one]))
        torch.testing.assert_close(alone[0], row, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("switches", "tracks"), [({}, 2), ({"SE": False}, 3), ({"SI": False}, 3)])
def test_an_intervals_tokens_reach_their_own_frame_only(switches, tracks):
    net, sigma = network(**switches), torch.tensor([0.3, 0.8])
    encoded = net.encode(features())
    assert len(encoded.tokens) == tracks
    before = net.control(encoded, sigma)(1, hidden()).unflatten(1, (LATENTS, -1))
    for track, tokens in encoded.tokens.items():
        other = tokens.clone()
        other[..., 2, :, :] += noise("change", TOKENS, 16)
        changed = replace(encoded, tokens=encoded.tokens | {track: other})
        after = net.control(changed, sigma)(1, hidden()).unflatten(1, (LATENTS, -1))
        assert differs(after[:, 2], before[:, 2])
        for frame in (0, 1, 3):
            assert torch.equal(after[:, frame], before[:, frame])


def test_video_frames_reach_the_latent_that_holds_them():
    """The causal clock: latent 0 is frame 0, latent i frames r(i−1)+1 .. ri; a short last latent is the rest."""
    net, given = network(), features(frames=11)
    assert net.encode(given).tokens["speech"].shape[2] == LATENTS
    encoded = [net.encode(features(frames=frames)) for frames in (1, 2, 5, 6, 49)]
    assert [one.tokens["speech"].shape[2] for one in encoded] == [1, 2, 2, 3, 13]
    before = net.encode(given).tokens["effects"]
    for frame, latent in [(0, 0), (1, 1), (4, 1), (5, 2), (8, 2), (9, 3), (10, 3)]:
        effects = given.effects.clone()
        effects[:, frame] += 1.0
        moved = (net.encode(replace(given, effects=effects)).tokens["effects"] - before).abs().amax((0, 2, 3)) > 1e-6
        assert moved.tolist() == [i == latent for i in range(LATENTS)]


def test_music_acts_on_every_token_alike():
    net, given, x = network(), features(), hidden()
    other = replace(given, music=features("b").music)
    sigma = torch.tensor([0.7, 0.7])
    style = [net.holistic_injection[0].to_style(net.encode(part).style)[:, None] for part in (given, other)]
    (gamma, beta), (gamma2, beta2) = (part.chunk(2, dim=-1) for part in style)
    plain = (net(given, sigma)(0, x) - beta) / (gamma + 1)  # the states before Eq. 3
    torch.testing.assert_close(plain * (gamma2 + 1) + beta2, net(other, sigma)(0, x), rtol=1e-3, atol=1e-3)
    assert differs(gamma, gamma2)


@pytest.mark.parametrize("switches", VARIANTS)
@pytest.mark.parametrize("track", ["speech", "effects", "music"])
def test_a_dropped_track_is_not_silence_and_forgets_what_it_was(track, switches):
    net, given, other = network(**switches), features(), features("b")
    silent = replace(given, **{track: torch.zeros_like(getattr(given, track))})
    dropped = injected(net, given.without(track))
    assert differs(dropped, injected(net, silent)) and differs(dropped, injected(net, given))
    content = replace(given, **{track: getattr(other, track)}).without(track)
    torch.testing.assert_close(injected(net, content), dropped, rtol=0, atol=1e-6)


@pytest.mark.parametrize("switches", VARIANTS)
def test_speakers(switches):
    net, two = network(**switches), features()
    result = injected(net, two)
    swapped = replace(two, speech=two.speech.flip(1))
    assert differs(injected(net, swapped), result)

    absent = replace(two, speakers=torch.tensor([[True, False], [True, False]]))
    one = replace(two, speech=two.speech[:, :1])
    torch.testing.assert_close(injected(net, absent), injected(net, one), rtol=0, atol=1e-5)
    assert differs(injected(net, one), result)
    silent = replace(two, speech=two.speech * torch.tensor([1.0, 0.0]).view(1, 2, 1, 1, 1, 1))
    assert differs(injected(net, silent), injected(net, one))

    unknown = injected(net, two.without("speech"))  # does not tell how many speak
    torch.testing.assert_close(injected(net, one.without("speech")), unknown, rtol=0, atol=1e-5)


def test_the_noise_level_conditions_the_intervals_per_sample():
    net, given = network(), features()
    a, b = injected(net, given, (0.7, 0.7)), injected(net, given, (0.7, 0.1))
    torch.testing.assert_close(a[0], b[0], rtol=0, atol=1e-6)
    assert differs(a[1], b[1])


@pytest.mark.parametrize("every", [2, 3])
def test_injection_every_leaves_the_other_blocks_untouched(every):
    net, x = network(num_blocks=7, injection_every=every), hidden()
    assert len(net.interval_injection) == len(net.holistic_injection) == len(range(0, 7, every))
    control = net(features(), torch.tensor([0.7, 0.7]))
    for index in range(7):
        assert torch.equal(control(index, x), x) == (index % every != 0)
    assert differs(control(0, x), control(every, x))


def names(net):
    return {name for name, _ in net.named_parameters()}


def test_the_parts_are_all_parameters():
    net = fresh()
    assert [name for name, _ in net.named_children()] == [
        "track_encoders", "speaker_identity", "interval_stream", "interval_injection", "holistic_stream",
        "holistic_injection",
    ]  # fmt: skip


def test_without_SE_music_goes_through_intervals_and_there_is_no_holistic_stream():
    full, without = names(fresh()), names(fresh(SE=False))
    assert full - without == {name for name in full if name.startswith("holistic_")}
    like_effects = {
        name.replace(".effects.", ".music.")
        for name in full
        if name.startswith(("interval_stream", "interval_injection")) and ".effects." in name
    }
    assert without - full == like_effects and like_effects


def test_without_SI_three_encoders_are_read_by_one_cross_attention():
    full, without = names(fresh()), names(fresh(SI=False))
    gone = ("interval_stream.", "holistic_stream.", "holistic_injection.")
    own = {name for name in full if ".attentions." in name}
    assert full - without == own | {name for name in full if name.startswith(gone)}
    assert without - full == {name.replace(".effects.", ".shared.") for name in own if ".effects." in name}


def test_TB_trains_the_attention_layers_of_the_video_stream():
    tower = stream()
    attentions = {
        f"blocks.{i}.{attention}.{name}"
        for i, block in enumerate(tower.blocks)
        for attention in ("attn1", "attn2")
        for name, _ in getattr(block, attention).named_parameters()
    }
    found = trainable_backbone_parameters(tower)
    assert set(found) == attentions and len(attentions) == 2 * 2 * 10
    assert all(parameter is tower.get_parameter(name) for name, parameter in found.items())
    with pytest.raises(ValueError, match="attn1"):
        trainable_backbone_parameters(nn.Linear(2, 2))


def test_every_parameter_learns():
    net = network().requires_grad_(True)
    drop = {name: torch.tensor([True, False]) for name in SIZES}
    control = net(features(drop=drop), torch.tensor([0.2, 0.9]))
    control(1, control(0, hidden())).square().sum().backward()
    dead = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


@pytest.mark.parametrize("switches", VARIANTS)
def test_saved_and_loaded_it_is_the_same(tmp_path, switches):
    net = network(**switches)
    net.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "diffusion_pytorch_model.safetensors"]
    loaded = MSTControlNet.from_pretrained(tmp_path).eval().requires_grad_(False)
    assert torch.equal(injected(loaded, features()), injected(net, features()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tracks": {"speech": (1, 1, 4)}}, "tracks must be"),
        ({"heads": 3}, "heads must divide"),
        ({"speakers": 0}, "at least 1"),
        ({"SE": False, "SI": False}, "not both"),
    ],
)
def test_sizes_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        fresh(**changes)


def test_inputs_that_do_not_fit_are_refused():
    net, given = network(), features()
    with pytest.raises(ValueError, match="the tracks must agree"):
        replace(given, music=given.music[:, 1:])
    with pytest.raises(ValueError, match="cannot drop"):
        given.without("voices")
    with pytest.raises(ValueError, match="needs a speaker"):
        replace(given, speakers=torch.zeros(2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="2 identities"):
        net.encode(features(voices=3))
    with pytest.raises(ValueError, match="features must be"):
        net.encode(replace(given, effects=given.effects[..., :2]))
    with pytest.raises(ValueError, match="sigma must be"):
        net(given, torch.tensor([0.5]))
    with pytest.raises(ValueError, match="cannot control"):
        net(given, torch.tensor([0.5, 0.5]))(0, hidden()[:, :-1])


def test_features_are_seen_standardised_but_what_hardly_varies_is_not_blown_up():
    common, own = noise("common", *SIZES["music"]), noise("own", 16, FRAMES, *SIZES["music"])
    own[..., 0] *= 1e-3
    clips, net = list(common + own), fresh()
    net.standardise({"music": clips, "effects": []})
    flat, encoder = torch.stack(clips).flatten(2), net.track_encoders["music"]
    torch.testing.assert_close(encoder.feature_mean, flat.mean((0, 1)))
    torch.testing.assert_close(encoder.feature_std, flat.flatten(0, 1).std(0, correction=0).clamp(min=0.02))
    assert encoder.feature_std[0] == torch.tensor(0.02)
    assert not net.track_encoders["effects"].feature_mean.any()
    plain = fresh().track_encoders["music"]
    seen = (clips[0] - encoder.feature_mean.view(*SIZES["music"])) / encoder.feature_std.view(*SIZES["music"])
    torch.testing.assert_close(encoder(clips[0][None]), plain(seen[None]))


def test_the_holistic_stream_lives_where_its_first_layer_is_far_from_zero():
    """GELU alone is zero there, for every clip."""
    net = network()
    tokens = noise("tokens", 4, LATENTS, TOKENS, 16)
    with torch.no_grad():
        net.holistic_stream.inward[0].bias.sub_(20)
    assert net.holistic_stream(tokens).std(0).mean() > 1e-3


def test_the_parameters_on_musics_way():
    net = fresh()
    chosen = {id(p) for p in net.holistic_parameters()}
    named = {name for name, p in net.named_parameters() if id(p) in chosen}
    assert named == {n for n in dict(net.named_parameters()) if "music" in n or "holistic" in n}
    for switches in ({"SE": False}, {"SI": False}):
        with pytest.raises(ValueError, match="no holistic stream"):
            fresh(**switches).holistic_parameters()


@torch.no_grad()
@pytest.mark.parametrize("changes", [*VARIANTS, {"injection_every": 2}])
@pytest.mark.parametrize("speakers", [1, 2])
def test_costs_are_what_torch_counts(changes, speakers):
    control, space = network(**changes), 6
    x = noise("x", 1, LATENTS * space, WIDTH)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        hook = control(features(batch=1, voices=speakers), torch.full((1, LATENTS), 0.5))
        for block in range(2):
            x = hook(block, x)
    assert control.forward_flops(LATENTS, space, speakers) == counter.get_total_flops()
