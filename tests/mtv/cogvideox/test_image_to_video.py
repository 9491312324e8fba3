"""CogVideoX of the image-to-video layout: clean latents at timestep 0, positions of shorter windows."""

from __future__ import annotations

import pytest
import torch
from small_cogvideox import LATENTS, backbone, noise

from mtv.cogvideox.hooks import rotary_embedding
from mtv.cogvideox.image_to_video import ImageToVideoDenoiser, learned_positions, modulated_at_zero, trained_size
from shared.utils.errors import UserError

LEARNED = {"use_learned_positional_embeddings": True, "use_rotary_positional_embeddings": True}


def predicted(model, x, timesteps):
    text = noise("text", 2, 5, 12)
    return model(x, text, timesteps, image_rotary_emb=rotary_embedding(model, x), return_dict=False)[0]


@torch.no_grad()
def test_clean_latents_have_the_modulation_of_timestep_zero():
    """Of a block's norm: states and gate of clean latents are those of a call at t = 0, of the others and the text
    those of the sample's t."""
    model = backbone()
    norm, seen = model.transformer_blocks[1].norm2, []
    hidden, words = noise("hidden", 2, LATENTS * 16, 32), noise("words", 2, 5, 32)
    time, zero = (model.time_embedding(model.time_proj(torch.full((2,), t))) for t in (700, 0))
    usual, still = norm(hidden, words, time), norm(hidden, words, zero)
    clean = torch.tensor([[True, False, True], [False, False, False]])
    with modulated_at_zero(model, clean, torch.float32):
        seen = norm(hidden, words, time)
    mask = clean.repeat_interleave(16, dim=1)[..., None]
    torch.testing.assert_close(seen[0], torch.where(mask, still[0], usual[0]), rtol=0, atol=1e-6)
    torch.testing.assert_close(seen[2], torch.where(mask, still[2], usual[2]), rtol=0, atol=1e-6)
    assert torch.equal(seen[1], usual[1]) and torch.equal(seen[3], usual[3])


@torch.no_grad()
def test_without_clean_latents_nothing_changes_and_nothing_is_left_behind():
    model, x, timesteps = backbone(), noise("x", 2, LATENTS, 4, 8, 8), torch.tensor([700, 300])
    plain = predicted(model, x, timesteps)
    with modulated_at_zero(model, torch.zeros(2, LATENTS, dtype=torch.bool), torch.float32):
        torch.testing.assert_close(predicted(model, x, timesteps), plain, rtol=0, atol=1e-5)
    with modulated_at_zero(model, torch.tensor([[True, False, False]] * 2), torch.float32):
        assert not torch.allclose(predicted(model, x, timesteps), plain, atol=1e-3)
    assert torch.equal(predicted(model, x, timesteps), plain)


@torch.no_grad()
def test_a_shorter_window_has_the_first_of_the_learned_positions():
    model, timesteps = backbone(**LEARNED), torch.tensor([700, 300])
    model.patch_embed.pos_embedding.copy_(noise("positions", *model.patch_embed.pos_embedding.shape))
    shorter = backbone(**LEARNED, sample_frames=5)
    state = model.state_dict()
    state["patch_embed.pos_embedding"] = state["patch_embed.pos_embedding"][:, : 5 + 2 * 16]
    shorter.load_state_dict(state)
    x = noise("x", 2, 2, 4, 8, 8)
    with learned_positions(model, 2):
        assert torch.equal(predicted(model, x, timesteps), predicted(shorter, x, timesteps))
    whole = noise("x", 2, LATENTS, 4, 8, 8)
    plain = predicted(model, whole, timesteps)
    with learned_positions(model, LATENTS):
        assert torch.equal(predicted(model, whole, timesteps), plain)
    with pytest.raises(UserError, match=r"9 frames is the longest .* 3 latents, not 4"), learned_positions(model, 4):
        pass
    assert trained_size(model, 8) == (64, 64) and trained_size(backbone(), 8) is None


class Told:
    """A control that notes what it is bound to, and halves what passes block 1."""

    def bound(self, transformer, time, rotation):
        self.time, self.rotation = time, rotation
        return lambda index, x: x / 2 if index == 1 else x


@torch.no_grad()
def test_the_control_is_bound_in_the_pass_to_the_samples_time():
    """Nothing of the transformer runs outside its pass: where models are offloaded it is on its device only then."""
    model, told, inside = backbone(in_channels=8), Told(), []
    model.register_forward_pre_hook(lambda *_: inside.append("pass"))
    model.time_embedding.register_forward_pre_hook(lambda *_: inside.append("time"))
    sigma = torch.tensor([[0.0, 0.7, 0.7], [0.3, 0.3, 0.3]])
    x, text = noise("x", 2, 4, LATENTS, 8, 8), noise("text", 2, 5, 12)
    out = ImageToVideoDenoiser(model).denoise_video(x, sigma, text, None, told)
    assert inside == ["pass", "time", "time"] and out.shape == x.shape
    expected = model.time_embedding(model.time_proj(torch.tensor([700, 300])))
    torch.testing.assert_close(told.time, expected, rtol=0, atol=1e-6)
    assert told.rotation[0].shape == (LATENTS * 16, 16)
    told.bound = lambda *_: lambda index, x: x
    assert not torch.allclose(ImageToVideoDenoiser(model).denoise_video(x, sigma, text, None, told), out, atol=1e-3)
