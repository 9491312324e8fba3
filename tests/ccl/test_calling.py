"""A call of `CCLPipeline` in the words of diffusers' pipelines: each has one meaning here, and the same result."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from test_pipeline import SECONDS, pipeline

from ccl.calling import Scales
from ccl.guidance import Form, Guidance
from ccl.pipeline import CCLPipeline
from shared.codecs import frames_to_tensor
from shared.data.media import write_audio, write_video
from shared.utils.calling import NO_MEANING
from shared.utils.errors import UserError

FRAMES = 13


@pytest.fixture(scope="module")
def pipe() -> CCLPipeline:
    return pipeline()


def call(pipe: CCLPipeline, prompt="a bell", **options):
    return pipe(prompt, **({"num_inference_steps": 2, "duration": SECONDS} | options))


def same(one, other) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("video", "audio"))


def test_a_script_in_the_words_of_diffusers_ltx2_pipeline_makes_what_ours_make(pipe):
    theirs = pipe(
        prompt=["a bell"], negative_prompt=None, height=32, width=32, num_frames=FRAMES, frame_rate=16.0,
        num_inference_steps=2, guidance_scale=2.0, audio_guidance_scale=4.0, modality_scale=1.5, guidance_rescale=0.5,
        num_videos_per_prompt=1, generator=torch.Generator("cpu").manual_seed(5), output_type="np", return_dict=True,
    )  # fmt: skip
    guidance = Guidance(text_scale=(2.0, 4.0), context_scale=(1.5, 1.5), rescale=0.5)
    ours = call(pipe, seed=5, guidance=guidance)
    assert same(theirs, ours) and theirs.frames.shape == (1, FRAMES, 32, 32, 3)
    frames, audio = call(pipe, seed=5, guidance=guidance, return_dict=False, output_type="pil")
    assert np.array_equal(np.array(frames[0][3]), ours.video[0, 3]) and np.array_equal(audio, ours.audio)


def test_scales_by_number():
    assert Scales().guidance(None) is None
    assert Scales(guidance_scale=1, modality_scale=1).guidance(None) == Guidance(Form.NONE, (1, 1), (1, 1))
    assert Scales(guidance_scale=3).guidance(None) == Guidance(text_scale=(3, 3))
    assert Scales(audio_guidance_scale=7).guidance(None) == Guidance(text_scale=(Guidance().text_scale[0], 7))
    assert Scales(modality_scale=2, audio_modality_scale=1).guidance(None) == Guidance(context_scale=(2, 1))


def test_a_generator_is_its_seed_and_then_goes_on(pipe):
    generator = torch.Generator().manual_seed(9)
    first, second = (call(pipe, generator=generator) for _ in range(2))
    assert same(first, call(pipe, seed=9))
    assert not same(first, second)
    again = torch.Generator().manual_seed(9)
    assert same(first, call(pipe, generator=again)) and same(second, call(pipe, generator=again))


def test_several_clips_of_each_prompt(pipe):
    many = call(pipe, ["a bell", "a drum"], num_videos_per_prompt=2, seed=3)
    assert len(many.video) == len(many.audio) == 4
    for index, prompt in enumerate(("a bell", "a bell", "a drum", "a drum")):
        alone = call(pipe, prompt, seed=3 + index)
        assert np.array_equal(alone.video[0], many.video[index])


def test_a_picture_by_file_pil_array_and_tensor_is_one(pipe, tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "first.png")
    tensor = frames_to_tensor(torch.from_numpy(picture)[None])[None, :, 0]
    expected = call(pipe, image=tensor)
    for form in (tmp_path / "first.png", str(tmp_path / "first.png"), Image.fromarray(picture), picture, tensor[0]):
        assert same(call(pipe, image=form), expected)
    assert same(call(pipe, ["a", "b"], image=[picture, picture]), call(pipe, ["a", "b"], image=picture))
    half = Image.fromarray(picture).resize((16, 16))
    assert call(pipe, image=half).video.shape == (1, FRAMES, 32, 32, 3)  # scaled to the sample's size


def test_a_sound_and_a_video_by_file_decide_the_length(pipe, tmp_path):
    sound = (np.random.default_rng(0).integers(-3000, 3000, (1, 12_500)) / 32768).astype(np.float32)  # as a wav holds
    write_audio(tmp_path / "x.wav", sound, 16_000)
    driven = pipe("a bell", audio=tmp_path / "x.wav", num_inference_steps=1)
    assert driven.video.shape[1] == 12 and driven.audio is None  # 12.5 frames of sound
    assert driven.given is not None and driven.given["audio"].shape == (1, 12_000)
    by_rate = pipe("a bell", audio=(sound[0], 16_000), num_inference_steps=1)
    np.testing.assert_array_equal(by_rate.video, driven.video)
    slow = pipe("a bell", audio=(sound[0, ::2], 8_000), num_inference_steps=1)
    assert slow.video.shape[1] == 12
    pictures = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8)
    write_video(tmp_path / "y.mp4", pictures, 16)
    for form in (tmp_path / "y.mp4", pictures, [Image.fromarray(one) for one in pictures], pictures / 255.0):
        heard = pipe("a bell", video=form, num_inference_steps=1)
        assert heard.audio.shape == (1, 9_000) and heard.video is None


def test_a_callback_is_shown_the_latents_that_it_names_and_may_end_the_sampling(pipe):
    seen = []

    def end(pipe, step, u, latents):
        seen.append((step, sorted(latents)))
        pipe._interrupt = step == 1

    call(pipe, num_inference_steps=5, callback_on_step_end=end, callback_on_step_end_tensor_inputs=["latents"])
    assert seen == [(0, ["latents"]), (1, ["latents"])]
    zero = call(
        pipe, callback_on_step_end=lambda pipe, step, u, shown: {"latents": torch.zeros_like(shown["latents"])},
        callback_on_step_end_tensor_inputs=["latents", "audio_latents"], output_type="latent",
    )  # fmt: skip
    assert zero.video is None and zero.audio is None and not zero.frames.any() and zero.latents["audio"].any()


def test_latents_decode_to_the_clip(pipe):
    latents, clip = call(pipe, output_type="latent").latents, call(pipe)
    sound = pipe.audio_codec.decode(latents["audio"], 13_000)[:, 0]
    np.testing.assert_allclose(sound.numpy(), clip.audio, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"num_frame": 9}, "unknown keyword num_frame; is num_frames meant"),
        ({"qwertz": 9}, "unknown keyword qwertz; see help"),
        ({"prompt_embeds": 1}, "prompt_embeds has no meaning here; leave it out"),
        ({"num_frames": 9}, "duration and num_frames say the same"),
        ({"num_frames": 0, "duration": None}, "num_frames is 0; a whole number from 1"),
        ({"fps": 16, "frame_rate": 16}, "fps and frame_rate say the same"),
        ({"seed": 1, "generator": torch.Generator()}, "seed and generator say the same"),
        ({"generator": 7}, "generator: a torch.Generator is needed"),
        ({"generator": [torch.Generator()] * 3}, "3 seeds for 1 prompts"),
        ({"guidance": Guidance(), "guidance_scale": 2}, "guidance and guidance_scale say the same"),
        ({"modality_scale": float("nan")}, "modality_scale is nan; a finite number"),
        ({"guidance_rescale": 2.0}, "guidance rescale is 2.0; it must lie in 0..1"),
        ({"num_videos_per_prompt": 0}, "num_videos_per_prompt is 0"),
        ({"output_type": "gif"}, "output_type 'gif': choose among np, pil, pt, latent"),
        ({"callback_on_step_end_tensor_inputs": ["x"]}, "callback_on_step_end_tensor_inputs: 'x'; choose among video"),
        ({"callback_on_step_end": lambda *_: {"x": 1}}, "a callback gave back 'x'; it was shown video, audio"),
        ({"image": []}, "image: an empty list"),
        ({"image": 3}, "image: a int; give a file"),
        ({"image": "absent.png"}, "absent.png"),
        ({"audio": "absent.wav", "duration": None}, "absent.wav"),
        ({"audio": np.zeros(9)}, r"audio: give a file, or samples with their rate"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(pipe, options, told):
    with pytest.raises(UserError, match=told):
        call(pipe, **options)


def test_no_keyword_that_has_a_meaning_is_said_to_have_none():
    import inspect

    assert not set(NO_MEANING) & set(inspect.signature(CCLPipeline.__call__).parameters)
    assert inspect.getdoc(CCLPipeline.__call__)


def test_every_keyword_of_diffusers_ltx2_pipeline_is_taken_or_told():
    import inspect

    from diffusers import LTX2Pipeline

    ours = {*inspect.signature(CCLPipeline.__call__).parameters, *NO_MEANING}
    assert set(inspect.signature(LTX2Pipeline.__call__).parameters) <= ours
