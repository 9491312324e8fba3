"""MTV's public network: what it computes, by the formulas alone; and what does not fit it."""

from __future__ import annotations

import pytest
import torch
from diffusers import CogVideoXTransformer3DModel
from mtvcraft import SMALL, Reference, small_public
from public import in_memory, shapes_of

from mtv.cogvideox.image_to_video import ImageToVideoDenoiser
from mtv.control import TrackFeatures
from mtv.mtvcraft import MTVCraftControl
from shared.checkpoint.conversion.mtvcraft import divided, sizes_of, weight_map
from shared.utils.errors import UserError
from shared.utils.rng import generator


def loaded(weights) -> tuple[CogVideoXTransformer3DModel, MTVCraftControl]:
    """Backbone and control of public weights."""
    sizes = sizes_of(in_memory(weights), (32, 32), 8)
    parts = {
        "transformer": CogVideoXTransformer3DModel(**sizes.transformer),
        "control": MTVCraftControl(**sizes.control),
    }
    shapes = {f"{part}.{name}": shape for part, module in parts.items() for name, shape in shapes_of(module).items()}
    origins = weight_map(shapes, divided(in_memory(weights))).origins
    for part, module in parts.items():
        of_part = {name: origin for name, origin in origins.items() if name.startswith(f"{part}.")}
        module.load_state_dict({name.removeprefix(f"{part}."): o.weights.read(o.name) for name, o in of_part.items()})
    return parts["transformer"].eval(), parts["control"].eval()


def noise(name, *shape):
    return torch.randn(shape, generator=generator(0, "mtvcraft inputs", name))


@torch.no_grad()
@pytest.mark.parametrize(("speakers", "latents"), [(1, 13), (2, 13), (1, 4)])
def test_the_models_compute_what_the_public_network_does(speakers, latents) -> None:
    """Of two samples, each with its own timestep and clean latents; a short window has the first positions."""
    weights = small_public(speakers)
    model, control = loaded(weights)
    frames, (_, height, width) = 4 * (latents - 1) + 1, SMALL["grid"]
    tracks = TrackFeatures(
        noise("speech", 2, speakers, frames, 3, 2, 4), noise("effects", 2, frames, 3, 2, 4),
        noise("music", 2, frames, 3, 2, 4),
    )  # fmt: skip
    x, text = noise("x", 2, 4, latents, 2 * height, 2 * width), noise("text", 2, SMALL["text"], SMALL["text_dim"])
    clean = torch.zeros(2, latents, dtype=torch.bool)
    clean[0, :2] = clean[0, 3] = True
    timesteps = torch.tensor([640, 999])
    sigma = torch.where(clean, 0.0, (timesteps / 1000)[:, None])
    hook = control.control(control.encode(tracks), sigma)
    found = ImageToVideoDenoiser(model).denoise_video(x, sigma, text, None, hook)
    public = Reference(weights, speakers)
    for row in range(2):
        speech = [tracks.speech[row, k].flatten(1) for k in range(speakers)]
        others = tracks.effects[row].flatten(1), tracks.music[row].flatten(1)
        expected = public.predict(x[row].transpose(0, 1), int(timesteps[row]), clean[row], text[row], speech, *others)
        assert expected.std() > 0.1
        torch.testing.assert_close(found[row].transpose(0, 1), expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_unknown_tracks_are_zero_features() -> None:
    _, control = loaded(small_public())
    tracks = TrackFeatures(*(noise(name, 1, *more, 5, 3, 2, 4) for name, more in (("s", (1,)), ("e", ()), ("m", ()))))
    unknown = control.encode(tracks.without("all"))
    zeros = control.encode(
        TrackFeatures(*(torch.zeros_like(one) for one in (tracks.speech, tracks.effects, tracks.music)))
    )
    assert torch.equal(unknown.tokens["speech"], zeros.tokens["speech"]) and torch.equal(unknown.style, zeros.style)
    assert not torch.equal(unknown.style, control.encode(tracks).style)


def test_what_does_not_fit_is_told() -> None:
    model, control = loaded(small_public())
    with pytest.raises(ValueError, match="2 speakers, and these weights are for 1 in every sample"):
        control.encode(
            TrackFeatures(torch.zeros(1, 2, 5, 3, 2, 4), torch.zeros(1, 5, 3, 2, 4), torch.zeros(1, 5, 3, 2, 4))
        )
    with pytest.raises(ValueError, match="features of 8 values; these weights read 24"):
        control.encode(
            TrackFeatures(torch.zeros(1, 1, 5, 1, 2, 4), torch.zeros(1, 5, 3, 2, 4), torch.zeros(1, 5, 3, 2, 4))
        )
    with pytest.raises(ValueError, match="speakers is 3; the public weights are for 1 or 2"):
        MTVCraftControl(**(dict(control.config) | {"speakers": 3}))
    with pytest.raises(ValueError, match="heads must divide their width"):
        MTVCraftControl(**(dict(control.config) | {"heads": 5}))
    control.check_backbone(model)
    text_to_video = CogVideoXTransformer3DModel(**(dict(model.config) | {"in_channels": 4}))
    with pytest.raises(UserError, match="4 channels in and 4 out; the public MTV control needs the image-to-video"):
        control.check_backbone(text_to_video)
    with pytest.raises(UserError, match="num_attention_heads of Linear is None"):
        control.check_backbone(torch.nn.Linear(1, 1))
