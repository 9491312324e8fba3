"""The epsilon objective on CogVideoX, and what a forward pass costs."""

from __future__ import annotations

import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler, CogVideoXTransformer3DModel
from small_cogvideox import LATENTS, SIGMA, backbone, features, inputs, network, noise
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mtv.cogvideox.hooks import controlled, rotary_embedding
from mtv.cogvideox.objective import cogvideox_flops, diffusion_loss, draw_timesteps, predicted_epsilon
from mtv.control import trainable_backbone_parameters
from shared.utils.errors import UserError


@pytest.mark.parametrize("scheduler", [CogVideoXDDIMScheduler, CogVideoXDPMScheduler])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_perfect_prediction_means_the_noise(scheduler, kind):
    schedule = scheduler(prediction_type=kind)
    clean, eps, timesteps = noise("clean", 3, 2, 4, 2, 2), noise("eps", 3, 2, 4, 2, 2), torch.tensor([0, 500, 999])
    noisy = schedule.add_noise(clean, eps, timesteps)
    perfect = eps if kind == "epsilon" else schedule.get_velocity(clean, eps, timesteps)
    torch.testing.assert_close(predicted_epsilon(schedule, perfect, noisy, timesteps), eps, rtol=0, atol=1e-4)


def test_other_predictions_are_refused():
    schedule = CogVideoXDDIMScheduler(prediction_type="sample")
    x = torch.zeros(1, 1, 1, 1, 1)
    with pytest.raises(UserError, match="'sample'"):
        predicted_epsilon(schedule, x, x, torch.tensor([1]))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_diffusion_loss_of_a_sample_is_its_mean_over_noisy_latents(kind):
    model, schedule = backbone(), CogVideoXDPMScheduler(prediction_type=kind)
    given = inputs(model)
    latents, eps, timesteps = given["hidden_states"], noise("eps", 2, LATENTS, 4, 8, 8), given["timestep"]
    clean = torch.tensor([[True, False, False], [False, False, False]])
    loss = diffusion_loss(model, schedule, latents, given["encoder_hidden_states"], timesteps, eps, clean)
    noisy = schedule.add_noise(latents, eps, timesteps)
    noisy[0, 0] = latents[0, 0]
    prediction = model(**(given | {"hidden_states": noisy}))[0]
    error = (predicted_epsilon(schedule, prediction, noisy, timesteps) - eps).square()
    torch.testing.assert_close(loss, torch.stack([error[0, 1:].mean(), error[1].mean()]))
    with pytest.raises(ValueError, match="nothing to predict"):
        diffusion_loss(model, schedule, latents, given["encoder_hidden_states"], timesteps, eps, torch.ones_like(clean))


@torch.no_grad()
def test_the_v_loss_is_the_error_of_x0_over_what_is_noise():
    """v = √ᾱ ε − √(1−ᾱ) x_0, so ‖v − v_θ‖² = ‖x_0 − x_θ‖² / (1−ᾱ); at ᾱ = 0 v is −x_0, and epsilon's error nothing."""
    model = backbone()
    schedule = CogVideoXDPMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    given, clean = inputs(model), torch.zeros(2, LATENTS, dtype=torch.bool)
    x, text, eps = given["hidden_states"], given["encoder_hidden_states"], noise("eps", 2, LATENTS, 4, 8, 8)
    times = torch.tensor([300, 999])
    args = model, schedule, x, text, times, eps, clean
    abar = schedule.alphas_cumprod[times].float().view(2, 1, 1, 1, 1)
    noisy = abar.sqrt() * x + (1 - abar).sqrt() * eps
    rotation = rotary_embedding(model, x)
    predicted = model(noisy, text, times, image_rotary_emb=rotation, return_dict=False)[0]
    found = abar.sqrt() * noisy - (1 - abar).sqrt() * predicted  # x_0 that the prediction means
    expected = ((found - x).square() / (1 - abar)).mean((1, 2, 3, 4))
    of_v = diffusion_loss(*args, epsilon=0, v=1)
    torch.testing.assert_close(of_v, expected, rtol=1e-4, atol=0)
    of_epsilon = diffusion_loss(*args)
    torch.testing.assert_close(of_epsilon, abar.flatten() * of_v, rtol=1e-3, atol=1e-6)
    assert of_epsilon[1] < 1e-6 and of_v[1] > 0.1
    torch.testing.assert_close(diffusion_loss(*args, epsilon=2, v=0.5), 2 * of_epsilon + 0.5 * of_v, rtol=1e-5, atol=0)


def test_training_by_v_learns_what_stands_under_pure_noise():
    """At the last timestep ᾱ is 0 and the target is −x_0: by v it is learned, by epsilon nothing is."""
    schedule = CogVideoXDPMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    given, times = inputs(backbone()), torch.tensor([999, 999])
    x, text = torch.full_like(given["hidden_states"], 0.7), given["encoder_hidden_states"]
    nothing, ends = torch.zeros(2, LATENTS, dtype=torch.bool), {}
    for name, weights in (("v", {"epsilon": 0.0, "v": 1.0}), ("epsilon", {})):
        model = backbone()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0)
        for step in range(40):
            eps = noise(f"eps {step}", 2, LATENTS, 4, 8, 8)
            diffusion_loss(model, schedule, x, text, times, eps, nothing, **weights).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            eps, rotation = noise("another", 2, LATENTS, 4, 8, 8), rotary_embedding(model, x)
            ends[name] = model(eps, text, times, image_rotary_emb=rotation, return_dict=False)[0]
    error = {name: (end + x).square().mean().sqrt().item() for name, end in ends.items()}
    assert error["v"] < 0.25 < 0.6 < error["epsilon"]


def test_a_cogvideox_folder_trains_by_mtv_alone(tmp_path):
    """A few steps on one batch, from a folder of diffusers' own: network and attention layers learn, the rest stays."""
    backbone().save_pretrained(tmp_path)
    model = CogVideoXTransformer3DModel.from_pretrained(tmp_path).requires_grad_(False)
    attention = trainable_backbone_parameters(model)
    assert len(attention) == 2 * 12 and all(".attn1." in name for name in attention)
    for parameter in attention.values():
        parameter.requires_grad_(True)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    net, schedule, given = network(trained=False), CogVideoXDPMScheduler(prediction_type="v_prediction"), inputs(model)
    optimizer = torch.optim.AdamW([*net.parameters(), *attention.values()], lr=1e-2)
    eps, losses = noise("eps", 2, LATENTS, 4, 8, 8), []
    nothing = torch.zeros(2, LATENTS, dtype=torch.bool)
    for _ in range(8):
        with controlled(model, net(features(), SIGMA)):
            text, latents = given["encoder_hidden_states"], given["hidden_states"]
            loss = diffusion_loss(model, schedule, latents, text, given["timestep"], eps, nothing).mean()
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == set(attention)


@torch.no_grad()
@pytest.mark.parametrize("rotary", [False, True])
def test_costs_of_cogvideox_are_those_of_a_pass_that_runs(rotary):
    model = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=8,
        text_embed_dim=12, num_layers=2, sample_width=8, sample_height=8, sample_frames=9, max_text_seq_length=6,
        use_rotary_positional_embeddings=rotary,
    )  # fmt: skip
    x = torch.zeros(1, 3, 4, 8, 8)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(x, torch.zeros(1, 6, 12), torch.zeros(1).long(), image_rotary_emb=rotary_embedding(model, x))
    counted = cogvideox_flops(model, tuple(x.shape[1:]), 6)
    assert counted == counter.get_total_flops() > 0


def test_timesteps_are_keyed_by_sample_and_cover_all() -> None:
    many = draw_timesteps(0, 1, [str(i) for i in range(400)], 10)
    assert set(many.tolist()) == set(range(10))
    assert draw_timesteps(0, 1, ["7", "3"], 10).tolist() == [many[7], many[3]]
