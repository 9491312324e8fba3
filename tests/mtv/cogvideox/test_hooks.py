"""MST-ControlNet on CogVideoX: the hook between attention and FFN."""

from __future__ import annotations

import pytest
import torch
from small_cogvideox import LATENTS, SIGMA, backbone, features, inputs, network, noise

from mtv.cogvideox.hooks import CogVideoXDenoiser, controlled
from mtv.control import TrackFeatures
from shared.encoders.timed_prompts import TimedPrompts
from shared.nn.clock import LatentClock
from shared.nn.timed_text import text_over_time
from shared.utils.errors import UserError


@torch.no_grad()
@pytest.mark.parametrize("rotary", [True, False])
def test_an_untrained_network_leaves_cogvideox_as_it_was_to_the_bit(rotary):
    model = backbone(use_rotary_positional_embeddings=rotary)
    given = inputs(model)
    alone = model(**given)[0]
    assert alone.std() > 0.1
    with controlled(model, network(trained=False)(features(), SIGMA)):
        assert torch.equal(model(**given)[0], alone)
    with controlled(model, network()(features(), SIGMA)):
        assert not torch.allclose(model(**given)[0], alone, atol=1e-3)
    assert torch.equal(model(**given)[0], alone)  # and nothing is left behind


@torch.no_grad()
def test_the_control_acts_between_attention_and_ffn():
    """Doubling the states there: the FFN's norm sees them doubled, and doubled they stay in the residual sum."""
    model, seen = backbone(num_layers=1), []
    block = model.transformer_blocks[0]
    block.norm2.register_forward_hook(lambda _, args, out: seen.extend([args[0], out[2]]))
    block.ff.register_forward_hook(lambda _, __, out: seen.append(out[:, 5:]))
    model.norm_final.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    given = inputs(model)
    model(**given)
    plain, *_ = seen
    seen.clear()
    with controlled(model, lambda index, x: 2 * x):
        model(**given)
    doubled, gate, ffn, out = seen
    torch.testing.assert_close(doubled, 2 * plain, rtol=0, atol=1e-5)
    torch.testing.assert_close(out, doubled + gate * ffn, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_batch_is_its_samples_alone():
    model, net, given, tracks = backbone(), network(), inputs(backbone()), features()
    with controlled(model, net(tracks, SIGMA)):
        together = model(**given)[0]
    for i in range(2):
        one = slice(i, i + 1)
        single = TrackFeatures(tracks.speech[one], tracks.effects[one], tracks.music[one])
        parts = {name: given[name][one] for name in ("hidden_states", "encoder_hidden_states", "timestep")}
        with controlled(model, net(single, SIGMA[one])):
            torch.testing.assert_close(model(**(given | parts))[0][0], together[i], rtol=0, atol=1e-5)


@torch.no_grad()
def test_texts_over_time_are_the_sum_of_the_predictions_with_each():
    model = CogVideoXDenoiser(backbone())
    latents, sigma = noise("x", 2, 4, LATENTS, 8, 8), torch.tensor([[0.0, 0.5, 0.5], [0.9, 0.9, 0.9]])

    def predicted(text):
        return model.denoise_video(latents, sigma, text, None, lambda _, x: x)

    def embed(texts):
        return torch.stack([noise(text, 5, 12) for text in texts])

    prompts = [TimedPrompts((0.0, 1.0), ("a", "b"), fade=2.0), TimedPrompts.of("c")]
    found = predicted(text_over_time(prompts, LatentClock.at_rate(LATENTS, 1.5), embed))  # centres at 1/3, 1, 5/3
    first, second = (predicted(embed([text, "c"])) for text in "ab")
    weight = torch.tensor([5 / 6, 1 / 2, 1 / 6])[:, None, None]
    torch.testing.assert_close(found[0], first[0] * weight + second[0] * (1 - weight), rtol=0, atol=1e-5)
    torch.testing.assert_close(found[1], first[1], rtol=0, atol=1e-5)


def test_gradients_with_checkpointing_are_those_without():
    model, given, gradients = backbone(), inputs(backbone()), []
    for checkpointing in (False, True):
        net = network()
        if checkpointing:
            model.enable_gradient_checkpointing()
        with controlled(model, net(features(), SIGMA)):
            model(**given)[0].square().mean().backward()
        gradients.append({name: parameter.grad for name, parameter in net.named_parameters()})
    for name, gradient in gradients[0].items():
        if gradient is not None:
            torch.testing.assert_close(gradients[1][name], gradient, rtol=0, atol=1e-6)
    assert gradients[0]["interval_injection.0.attentions.speech.to_out.weight"].any()


def test_a_transformer_that_joins_latents_in_a_token_is_refused():
    model = backbone(patch_size_t=2, patch_bias=False)
    with pytest.raises(UserError, match="patch_size_t"), controlled(model, lambda _, x: x):
        pass
