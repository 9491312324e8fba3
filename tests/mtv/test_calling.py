"""A call of `MTVPipeline` in the words of diffusers' pipelines: each has one meaning here, and the same result."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_driven import FPS, NONE, RATE, driven, joint, sound, tracks

from mtv.calling import ELSEWHERE, Call
from mtv.guidance import TrackGuidance
from mtv.pipeline import MTVPipeline
from mtv.tracks import Tracks
from shared.codecs import frames_to_tensor
from shared.data.media import probe, read_audio, write_audio
from shared.utils.calling import NO_MEANING
from shared.utils.errors import UserError

FRAMES = 9
SECONDS = FRAMES / FPS


@pytest.fixture(scope="module")
def pipe() -> MTVPipeline:
    return driven(joint())


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wav whose samples 16 bits hold."""
    path = tmp_path_factory.mktemp("voice") / "voice.wav"
    write_audio(path, (0.1 * np.random.default_rng(0).standard_normal((1, round(SECONDS * RATE)))).astype("f4"), RATE)
    return path


def call(pipe: MTVPipeline, prompt="a bell", **options):
    return pipe(prompt, **({"num_inference_steps": 1, "guidance": NONE} | options))


def same(one, other) -> bool:
    return np.array_equal(one.video, other.video) and np.array_equal(one.audio, other.audio)


def test_a_call_in_the_words_of_diffusers_makes_what_ours_makes(pipe, voice):
    theirs = pipe(
        prompt=["a bell"], negative_prompt=None, speech=voice, height=32, width=32, num_frames=FRAMES, frame_rate=FPS,
        num_inference_steps=1, guidance_scale=3.0, num_videos_per_prompt=1, output_type="np", return_dict=True,
        generator=torch.Generator("cpu").manual_seed(5),
    )  # fmt: skip
    guidance = TrackGuidance(text=3.0)
    ours = call(pipe, speech=str(voice), duration=SECONDS, seed=5, guidance=guidance)
    assert same(theirs, ours) and theirs.frames.shape == (1, FRAMES, 32, 32, 3)
    assert not same(ours, call(pipe, speech=voice, seed=6, guidance=guidance))
    frames, audio = call(pipe, speech=voice, seed=5, guidance=guidance, return_dict=False, output_type="pil")
    assert np.array_equal(np.array(frames[0][3]), ours.video[0, 3]) and np.array_equal(audio, ours.audio)


def test_a_track_by_file_array_and_tensor_is_one(pipe, voice):
    samples = read_audio(voice, RATE)
    expected = call(pipe, tracks=Tracks([torch.from_numpy(samples)]))
    for form in (voice, str(voice), (samples, RATE), (samples[0], RATE), torch.from_numpy(samples)[None]):
        assert same(call(pipe, speech=form), expected)
    assert np.array_equal(expected.audio, samples) and expected.sample_rate == RATE
    assert not same(call(pipe, effects=voice), expected)
    two = call(pipe, speech=[None, (samples, RATE)])
    silent = torch.zeros(1, samples.shape[1])
    assert same(two, call(pipe, tracks=Tracks([silent, torch.from_numpy(samples)]))) and not same(two, expected)


def test_tracks_of_any_length_are_filled_to_the_longest_and_that_is_said(pipe, voice):
    music = sound("music", 2 * SECONDS)[0].numpy()
    with pytest.warns(UserWarning, match=r"voice\.wav lasts 0\.562 s, music 1\.125 s: the shorter is filled") as told:
        made = call(pipe, speech=voice, music=(music, RATE))
    assert len(told) == 1 and made.video.shape[1] == 2 * FRAMES
    padded = np.pad(read_audio(voice, RATE), ((0, 0), (0, len(music) - round(SECONDS * RATE))))
    whole = call(pipe, speech=(padded, RATE), music=(music, RATE))
    assert same(made, whole)
    np.testing.assert_allclose(made.audio[0], padded[0] + music, atol=1e-6)


def test_the_sound_is_the_sum_at_the_highest_rate_and_is_written_with_the_pictures(pipe, voice, tmp_path):
    high = (0.9 * np.sin(np.arange(round(SECONDS * 48_000)) / 50)).astype(np.float32)
    made = call(pipe, ["a", "b"], speech=voice, effects=(high, 48_000), music=(high, 48_000))
    assert made.sample_rate == 48_000 and made.audio.shape == (2, len(high))
    assert np.abs(made.audio).max() == pytest.approx(1)  # turned down as a whole
    assert np.corrcoef(made.audio[0], high)[0, 1] > 0.95
    files = made.save(tmp_path / "clip.mp4")
    assert [file.name for file in files] == ["clip_000.mp4", "clip_001.mp4"]
    info = probe(files[1])
    assert (info.rate, info.fps) == (48_000, FPS) and info.video_end == pytest.approx(info.audio_end)


def test_pictures_by_file_pil_array_and_tensor_are_one(pipe, voice, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "face.png")
    tensor = frames_to_tensor(torch.from_numpy(pixels)[None])[:, 0]
    expected = call(pipe, speech=voice, image=tensor, keyframes={0.3: tensor})
    for form in (tmp_path / "face.png", Image.fromarray(pixels), pixels):
        assert same(call(pipe, speech=voice, image=form, keyframes={0.3: form}), expected)
    assert not same(call(pipe, speech=voice, image=tensor), expected)
    assert call(pipe, speech=voice, image=Image.fromarray(pixels).resize((16, 16))).video.shape[2:4] == (32, 32)


def test_several_clips_of_each_prompt_with_tracks_of_their_own(pipe):
    own = [tracks("a", SECONDS), tracks("b", SECONDS)]
    many = call(pipe, ["a bell", "a drum"], tracks=own, num_videos_per_prompt=2, seed=3)
    for index, (prompt, one) in enumerate((("a bell", own[0]), ("a bell", own[0]), ("a drum", own[1]))):
        alone = call(pipe, prompt, tracks=one, seed=3 + index)
        assert np.array_equal(alone.audio[0], many.audio[index])
        assert np.abs(alone.video[0].astype(int) - many.video[index]).max() <= 1  # a batch rounds otherwise


def test_scales_by_number():
    def scales(together: bool = False, **options) -> TrackGuidance | None:
        return Call("a", **options).scales(together)

    assert scales() is None and scales(guidance=NONE) == NONE
    assert scales(guidance_scale=3) == TrackGuidance(text=3) and scales(music_scale=0) == TrackGuidance(music=0)
    assert scales(True, guidance_scale=3) == TrackGuidance(form="joint", scale=3)
    with pytest.raises(UserError, match="none can be weighed alone"):
        chosen = scales(True, guidance_scale=3, speech_scale=2)
        assert chosen is not None
        chosen.check(drops_together=True)


def test_a_callback_may_end_the_video_with_its_window(pipe):
    seen = []

    def end(pipe, step, u, latents):
        seen.append((step, sorted(latents)))
        pipe._interrupt = step == 4

    given = {"num_inference_steps": 3, "tracks": tracks("a", 29 / FPS), "window": 13}
    names = {"callback_on_step_end": end, "callback_on_step_end_tensor_inputs": ["latents"]}
    made = call(pipe, **given, **names)
    assert seen == [(step, ["latents"]) for step in range(5)]
    assert made.video.shape[1] == 21 and made.audio.shape == (1, round(21 / FPS * RATE))
    assert np.array_equal(made.video[:, :13], call(pipe, **given).video[:, :13])


def test_latents_decode_to_the_clip(pipe):
    given = {"tracks": tracks("a", SECONDS), "num_inference_steps": 2}
    latent, clip = call(pipe, output_type="latent", **given), call(pipe, **given)
    assert (
        latent.video is None and latent.frames is latent.latents["video"] and np.array_equal(latent.audio, clip.audio)
    )
    decoded = pipe.video_codec.decode(latent.frames, FRAMES)[0].movedim(0, -1)
    np.testing.assert_allclose(decoded * 127.5 + 127.5, clip.video[0], atol=0.51)
    with pytest.raises(UserError, match=r"output_type latent: 2 windows .*; give a window of 9 frames"):
        call(pipe, output_type="latent", window=5, overlap=1, **given)


def test_stream_takes_what_a_call_takes(pipe, voice):
    parts = list(pipe.stream("a bell", speech=voice, num_inference_steps=1, guidance=NONE, seed=2))
    assert np.array_equal(np.concatenate(parts, 1), call(pipe, speech=voice, seed=2).video)
    theirs, ours = inspect.signature(MTVPipeline.__call__).parameters, inspect.signature(Call).parameters
    assert [one for one in theirs if one not in ("self", "output_type", "return_dict", "unknown")] == [*ours]
    assert all(theirs[name].default == one.default for name, one in ours.items())
    text = inspect.getdoc(MTVPipeline.__call__)
    assert text is not None and all(field.name in text for field in fields(Call)) and "output_type" in text
    assert not {*NO_MEANING, *ELSEWHERE} & set(theirs)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"num_frame": 9}, "unknown keyword num_frame; is num_frames meant"),
        ({"speach": 9}, "unknown keyword speach; is speech meant"),
        ({"audio": "x.mp3"}, "audio: a mix has to be taken apart first, mtv.separation.demixer does"),
        ({"prompt_embeds": 1}, "prompt_embeds has no meaning here"),
        ({"duration": 0.5, "num_frames": 9}, "duration and num_frames say the same"),
        ({"fps": 16, "frame_rate": 16}, "fps and frame_rate say the same"),
        ({"seed": 1, "generator": torch.Generator()}, "seed and generator say the same"),
        ({"guidance": NONE, "speech_scale": 2}, "guidance and speech_scale say the same"),
        ({"tracks": tracks()}, "tracks and speech, effects or music say the same"),
        ({"speech": None}, "no track is given; at least one of speech, effects or music"),
        ({"speech": np.zeros(9)}, r"speech: give a file, or samples with their rate as \(samples, rate\)"),
        ({"speech": ("a.wav", "b.wav")}, r"speech: give a file, or samples with their rate"),
        ({"speech": torch.zeros(2, 1, 99)}, "speech: 2 sounds; one is needed"),
        ({"music": "absent.mp3"}, r"absent\.mp3: no such file"),
        ({"music": (np.full(9, np.nan), 9)}, "music: NaN or infinity"),
        ({"output_type": "gif"}, "output_type 'gif': choose among"),
        ({"callback_on_step_end_tensor_inputs": ["audio"]}, "'audio'; choose among video, latents"),
        ({"keyframes": {0.1: 7}}, "keyframe at 0.1 s: a int; give a file"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(pipe, voice, options, told):
    with pytest.raises(UserError, match=told):
        pipe("a bell", **({"speech": voice, "num_inference_steps": 1} | options))
    if "output_type" not in options:
        with pytest.raises(UserError, match=told):
            pipe.stream("a bell", **({"speech": voice} | options))
