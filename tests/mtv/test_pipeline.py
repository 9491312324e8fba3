"""MTVPipeline on a tiny model: what is drawn, driven, kept, shared and refused."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from small_driven import FPS, NONE, RATE, STREAM, driven, joint, network, noise, picture, randomise, sound, tracks
from torch import nn

from ccl.guidance import Form, Guidance
from ccl.pipeline import CCLPipeline
from ccl.transformer import DualStreamTransformer
from mtv.control import TrackFeatures
from mtv.guidance import TrackGuidance
from mtv.pipeline import MTVPipeline
from mtv.tracks import Tracks
from mtv.windows import WindowSampler
from shared.codecs import frames_to_tensor
from shared.encoders.audio import LogMel
from shared.encoders.timed_prompts import TimedPrompts
from shared.nn import few_steps
from shared.puppets.clip import render_clip, sample_spec
from shared.utils.errors import UserError


@pytest.fixture(scope="module")
def ccl() -> CCLPipeline:
    return joint()


@pytest.fixture(scope="module")
def pipe(ccl) -> MTVPipeline:
    return driven(ccl)


def sample(pipe: MTVPipeline, prompt="a bell", given=None, steps: int = 1, **options):
    """The frames, and the latents after each step."""
    latents = []
    made = pipe(
        prompt,
        tracks() if given is None else given,
        num_inference_steps=steps,
        callback_on_step_end=lambda _, step, u, now: latents.append(now["video"].clone()),
        **options,
    )
    return made.video, latents


@contextmanager
def evaluated(model: nn.Module):
    """The texts [B, L, D] of the forward passes while this lasts."""
    texts = []
    hook = model.register_forward_pre_hook(lambda _, args: texts.append(args[1].text))
    yield texts
    hook.remove()


def test_a_sample_has_the_length_of_its_tracks_and_the_size_of_the_model(pipe):
    video, latents = sample(pipe, ["a bell", "a drum"], steps=2)
    assert video.shape == (2, 13, 32, 32, 3) and video.dtype == np.uint8
    assert len(latents) == 2 and latents[-1].isfinite().all()
    assert sample(pipe, duration=9 / FPS, height=16)[0].shape == (1, 9, 16, 32, 3)


@pytest.mark.parametrize("solver", ["euler", "unipc"])
def test_an_untrained_control_without_guidance_is_t2v_to_the_bit(solver):
    ccl = joint(solver)
    latents = []
    plain = ccl(
        ["a bell", "a drum"],
        task="t2v",
        duration=13 / FPS,
        num_inference_steps=3,
        seed=7,
        guidance=Guidance(Form.NONE),
        callback_on_step_end=lambda _, step, u, now: latents.append(now["video"].clone()),
    )
    video, ours = sample(
        driven(ccl, control=network()), ["a bell", "a drum"], tracks(speakers=2), 3, seed=7, guidance=NONE
    )
    assert all(torch.equal(a, b) for a, b in zip(ours, latents, strict=True)) and len(ours) == 3
    assert np.array_equal(video, plain.video)
    trained, _ = sample(driven(ccl), ["a bell", "a drum"], tracks(speakers=2), 3, seed=7, guidance=NONE)
    assert not np.array_equal(trained, video)


def test_a_batch_is_its_samples_alone(pipe):
    """Speakers, silence, prompts over time and pictures mixed, over two windows."""
    prompts = [TimedPrompts((0.0, 0.5), ("a bell", "rain")), "a drum"]
    given = [tracks("a", 1.0, speakers=2), Tracks([sound("b", 1.0)], music=sound("c", 1.0))]
    frames = {0.3: torch.stack([picture("x"), picture("y")])}
    more = {"window": 13, "overlap": 5}
    _, together = sample(pipe, prompts, given, seed=5, keyframes=frames, **more)
    for i in range(2):
        one = {time: pictures[i] for time, pictures in frames.items()}
        _, alone = sample(pipe, prompts[i], given[i], seed=5 + i, keyframes=one, **more)
        assert len(alone) == len(together) == 2
        for a, b in zip(alone, together, strict=True):
            torch.testing.assert_close(a[0], b[i], rtol=0, atol=1e-4)
    _, shared = sample(pipe, ["a drum", "a drum"], given[1], seed=[6, 6], keyframes=frames, **more)
    torch.testing.assert_close(shared[-1][1], together[-1][1], rtol=0, atol=1e-4)


def test_each_track_and_the_text_drive_the_video(pipe):
    base, other = tracks("a"), tracks("b")
    edits = {
        "nothing": base,
        "speech": Tracks(other.speech, base.effects, base.music),
        "effects": Tracks(base.speech, other.effects, base.music),
        "music": Tracks(base.speech, base.effects, other.music),
        "silence": Tracks([torch.zeros_like(base.speech[0])], base.effects, base.music),
    }
    videos = [sample(pipe, given=one, seed=3, guidance=NONE)[0] for one in edits.values()]
    videos.append(sample(pipe, "a drum", base, seed=3, guidance=NONE)[0])
    for i, video in enumerate(videos):
        assert not any(np.array_equal(video, earlier) for earlier in videos[:i])
    assert np.array_equal(sample(pipe, given=base, seed=3, guidance=NONE)[0], videos[0])


def test_an_edit_keeps_the_noise_and_every_window_has_its_own(pipe):
    def drawn(prompt, given):
        noises, step = [], pipe.scheduler.step
        pipe.scheduler.step = lambda v, time, x, **more: noises.append(x) or step(v, time, x, **more)
        try:
            sample(pipe, prompt, given, steps=1, seed=3, window=13, guidance=NONE)
        finally:
            del pipe.scheduler.step
        return noises

    first, second = drawn("a bell", tracks("a", 1.25))
    edited = drawn("a drum", tracks("b", 1.25))
    assert torch.equal(edited[0], first) and torch.equal(edited[1][:, :, 2:], second[:, :, 2:])
    assert not torch.equal(second[:, :, 2:], first[:, :, 2:])


def test_ten_seconds_at_24_fps_are_240_frames_in_six_windows(ccl):
    made = driven(ccl, fps=24.0, height=16, width=16)
    parts = list(made.stream("a bell", tracks(seconds=10.0), num_inference_steps=1, guidance=NONE))
    assert [part.shape[1] for part in parts] == [49, 44, 44, 44, 44, 15]
    assert sum(part.shape[1] for part in parts) == 240


def test_stream_samples_a_window_when_it_is_asked_for_and_joins_to_the_whole(pipe):
    given, options = tracks(seconds=2.0), {"num_inference_steps": 1, "guidance": NONE, "window": 13}
    with evaluated(pipe.transformer) as passes:
        parts = pipe.stream("a bell", given, **options)
        assert len(passes) == 0
        first = next(parts)
        assert len(passes) == 1 and first.shape == (1, 13, 32, 32, 3)
        rest = list(parts)
        assert len(passes) == 4 and [part.shape[1] for part in rest] == [8, 8, 3]
    whole = pipe("a bell", given, **options).video
    assert np.array_equal(np.concatenate([first, *rest], axis=1), whole) and whole.shape[1] == 32


def test_a_window_goes_on_from_the_last_frames_of_the_one_before(pipe):
    """The shared frames are clean latents of the second window, and are not given out twice."""
    given = tracks(seconds=21 / FPS)
    video, latents = sample(pipe, given=given, steps=2, window=13, seed=1, guidance=NONE)
    assert len(latents) == 4 and video.shape[1] == 21
    last = pipe.video_codec.decode(latents[1], 13)[:, :, -5:]
    prefix = pipe.video_codec.encode(last)
    assert prefix.shape[2] == 2
    for now in latents[2:]:
        assert torch.equal(now[:, :, :2], prefix)
    assert not torch.allclose(latents[3][:, :, 2], latents[2][:, :, 2], atol=1e-3)
    ends = pipe.video_codec.decode(latents[3], 13)
    seen = frames_to_tensor(torch.from_numpy(video))[:, :, 13:]
    torch.testing.assert_close(seen, ends[:, :, 5:], rtol=0, atol=1 / 127)


def test_a_windows_features_are_those_of_the_whole_sound(pipe):
    given = tracks(seconds=21 / FPS)
    encoded = []
    encode = pipe.control.encode
    pipe.control.encode = lambda features: encoded.append(features) or encode(features)
    try:
        sample(pipe, given=given, window=13, guidance=TrackGuidance(2.0, 2.0, 2.0, 3.0), steps=1)
    finally:
        del pipe.control.encode
    assert [(one.effects.shape[1], set(one.drop)) for one in encoded[4:]] == [(13, s) for s in (set(), *DROPPED)]
    whole = pipe.audio_encoder.encode(given.effects[None], 21, FPS)
    assert torch.equal(encoded[4].effects, whole[:, 8:21])
    assert encoded[4].effects[0, 0, 0].any()  # the window's first frame sees the sound before it


DROPPED = ({"speech"}, {"effects"}, {"music"})


def test_keyframes_are_found_again_at_their_time(pipe):
    """Pictures of the stage through the stage codec, in both windows, at the start and at the end."""
    times = (0.0, 0.45, 1.05, 20 / FPS)
    frames = {time: render_clip(sample_spec(5, i, "simple")).frames[20] for i, time in enumerate(times)}
    still = {time: frames_to_tensor(torch.from_numpy(frame)[None])[:, 0] for time, frame in frames.items()}
    given = tracks(seconds=21 / FPS)
    size = {"height": 64, "width": 64, "window": 13, "steps": 2, "guidance": NONE}
    repeated = pipe.video_codec.encode(still[0.45][None, :, None].expand(-1, -1, 5, -1, -1))[:, :, -1]
    video, latents = sample(pipe, given=given, image=still.pop(0.0), keyframes=still, **size)
    for time, wanted in frames.items():
        frame = int(time * FPS + 1e-9)
        errors = np.square(video[0].astype(float) - wanted).mean((1, 2, 3))
        psnr = 10 * np.log10(255**2 / errors)
        assert psnr[frame] > 30 and psnr[(frame + 6) % 21] < 25
    for now in latents[:2]:
        assert torch.equal(now[:, :, 2], repeated)  # frame 7 lies in frames 5 .. 8
    plain, _ = sample(pipe, given=given, **size)
    assert not np.array_equal(video[:, 2], plain[:, 2])  # what is free answers to what is given


def test_clean_frames_have_sigma_zero_in_backbone_and_control(pipe):
    sigmas, controls = [], []
    hook = pipe.transformer.register_forward_pre_hook(lambda _, args: sigmas.append(args[1].sigma))
    control = pipe.control.control
    pipe.control.control = lambda encoded, sigma: controls.append(sigma) or control(encoded, sigma)
    try:
        sample(pipe, ["a", "b"], image=picture("x"), keyframes={0.6: picture("y")}, steps=1, guidance=NONE)
    finally:
        hook.remove()
        del pipe.control.control
    assert sigmas[0].tolist() == controls[0].tolist() == [[0, 1, 1, 0]] * 2


def test_timed_prompts_hold_on_the_videos_clock_in_one_evaluation_of_each_window(pipe):
    """Texts change at 0.4 s, within the first window, and at 0.9 s, within the second."""
    story = TimedPrompts((0.0, 0.4, 0.9), ("a bell", "rain", "a dog"))
    given, options = tracks(seconds=29 / FPS), {"window": 13, "guidance": NONE, "steps": 1, "seed": 4}
    texts = {text: pipe.text_encoder.encode([text]) for text in story.texts}

    def named(text):
        """The text of each latent."""
        if isinstance(text, torch.Tensor):
            return [next(name for name, x in texts.items() if torch.equal(x, text))] * 4
        names = [next(name for name, x in texts.items() if torch.equal(x[0], one)) for one in text.texts]
        return [names[int(span.rows[0])] for span in text.spans for _ in range(span.start, span.stop)]

    with evaluated(pipe.transformer) as seen:
        video, _ = sample(pipe, story, given, **options)
    windows = [["a bell"] * 2 + ["rain"] * 2, ["rain"] * 2 + ["a dog"] * 2, ["a dog"] * 4]  # from 0, 0.5 and 1 s on
    assert [named(text) for text in seen] == windows
    constant, _ = sample(pipe, "a bell", given, **options)
    assert not np.array_equal(video[:, 9:], constant[:, 9:])
    same = TimedPrompts((0.0, 0.4, 0.9), ("a bell",) * 3)
    assert np.array_equal(sample(pipe, same, given, **options)[0], constant)


def test_a_step_evaluates_only_what_guidance_needs(pipe):
    for guidance, count in (
        (NONE, 1),
        (TrackGuidance(), 3),
        (TrackGuidance(2.0, 2.0, 2.0, 2.0), 5),
        (TrackGuidance(1.0, 3.0, 1.0, 1.0), 2),
        (TrackGuidance(form="joint"), 2),
        (TrackGuidance(2.0, 2.0, 2.0, 2.0, interval=(0.0, 0.9)), 1 + 5),
    ):
        with evaluated(pipe.transformer) as passes:
            sample(pipe, guidance=guidance, steps=1 if count < 6 else 2)
        assert len(passes) == count


def test_joint_guidance_compares_with_no_text_and_no_track(pipe):
    """By hand: the difference of two plain samples, of which one has the empty text and every track dropped."""
    latents = noise("latents", 1, 48, 4, 4, 4)
    features = pipe._features([tracks(seconds=13 / FPS)], 13, FPS, 1)
    text, empty = (pipe.text_encoder.encode([words]) for words in ("a bell", ""))
    clock = pipe.video_codec.clock(13, FPS)

    def velocity(words, features, guidance):
        sampler = WindowSampler(pipe.transformer, pipe.control, features, words, empty, clock, {}, guidance)
        return sampler.velocity(latents, 0.5)

    with torch.no_grad():
        dropped = TrackFeatures(
            features.speech, features.effects, features.music, features.speakers,
            {name: torch.ones(1, dtype=torch.bool) for name in ("speech", "effects", "music")},
        )  # fmt: skip
        full, nothing = velocity(text, features, NONE), velocity(empty, dropped, NONE)
        guided = velocity(text, features, TrackGuidance(form="joint", scale=3.5))
    assert not torch.allclose(full, nothing)
    torch.testing.assert_close(guided, nothing + 3.5 * (full - nothing))


def test_a_callback_counts_through_the_windows_and_may_replace_latents(pipe):
    seen = []

    def grey(_, step, u, latents):
        assert not torch.is_grad_enabled()
        seen.append((step, u))
        return {"video": torch.zeros_like(latents["video"])}

    made = pipe("a", tracks(seconds=21 / FPS), num_inference_steps=2, window=13, callback_on_step_end=grey)
    assert seen == [(0, 1.0), (1, 0.5), (2, 1.0), (3, 0.5)]
    flat = pipe.video_codec.decode(torch.zeros(1, 48, 4, 4, 4), 13)
    assert np.array_equal(made.video[0, 0], ((flat[0, :, 0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())


def test_from_pipe_shares_the_models_and_both_pipelines_read_one_folder(ccl, pipe, tmp_path):
    for name in ("transformer", "control", "video_codec", "text_encoder", "scheduler", "audio_codec", "audio_encoder"):
        assert getattr(pipe, name) is getattr(ccl, name)
    video, _ = sample(pipe, given=tracks(speakers=2), seed=8)
    sounds = ccl("a bell", duration=0.5, num_inference_steps=1, task="t2a").audio
    ccl.save_pretrained(tmp_path / "ccl")
    pipe.save_pretrained(tmp_path / "mtv")
    for folder in ("ccl", "mtv"):
        loaded = MTVPipeline.from_pretrained(tmp_path / folder)
        loaded.set_progress_bar_config(disable=True)
        assert (loaded.config.fps, loaded.config.height, loaded.effects_encoder) == (FPS, 32, None)
        assert np.array_equal(sample(loaded, given=tracks(speakers=2), seed=8)[0], video)
    again = CCLPipeline.from_pretrained(tmp_path / "mtv")
    again.set_progress_bar_config(disable=True)
    assert np.array_equal(again("a bell", duration=0.5, num_inference_steps=1, task="t2a").audio, sounds)


def test_tracks_may_have_encoders_of_their_own(ccl):
    other = LogMel(parts_per_frame=2, n_mels=16, floor_db=-40.0)
    base = sample(driven(ccl))[0]
    assert not np.array_equal(sample(driven(ccl, effects_encoder=other))[0], base)
    assert np.array_equal(sample(driven(ccl, music_encoder=ccl.audio_encoder))[0], base)


def test_a_joint_model_alone_is_refused_in_one_line(ccl, tmp_path):
    parts = {name: getattr(ccl, name) for name in ccl.components} | {"control": None, "audio_encoder": None}
    alone = CCLPipeline(**parts)
    alone.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"^no control and no audio_encoder, this is a joint model only"):
        MTVPipeline.from_pipe(alone)
    with pytest.raises(UserError, match=r"^checkpoint .*: no control and no audio_encoder, this is"):
        MTVPipeline.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"duration": 0.0}, "duration 0.0 s"),
        ({"duration": float("nan")}, "duration nan s"),
        ({"duration": 3.0}, "tracks last 0.8125 s, the sample 3 s"),
        ({"width": 40}, "32x40.*multiples of 16"),
        ({"num_inference_steps": 0}, "0 sampling steps"),
        ({"seed": [1, 2]}, "2 seeds for 1 prompts"),
        ({"tracks": [tracks()] * 2}, "2 tracks for 1 prompts"),
        ({"tracks": tracks(speakers=3)}, "3 speakers; this checkpoint knows 2"),
        ({"tracks": Tracks([torch.zeros(1, 9000)], rate=8000)}, "8000 Hz, the speech encoder needs 16000 Hz"),
        ({"prompt": ["a", "b"], "tracks": [tracks(), tracks(seconds=1.0)]}, "tracks of .13, 16. frames in one batch"),
        ({"prompt": []}, "1 tracks for 0 prompts"),
        ({"image": torch.zeros(3, 32, 64)}, r"picture at 0 s is \[1, 3, 32, 64\]"),
        ({"keyframes": {0.1: torch.zeros(3, 3, 32, 32)}}, "3 pictures at 0.1 s for 1 prompts"),
        ({"keyframes": {0.8125: torch.zeros(3, 32, 32)}}, "keyframe at 0.8125 s; the video lasts"),
        ({"keyframes": {-0.1: torch.zeros(3, 32, 32)}}, "keyframe at -0.1 s"),
        ({"keyframes": dict.fromkeys((0.1, 0.2), torch.zeros(3, 32, 32))}, "0.1 s and 0.2 s share a latent"),
        ({"image": torch.zeros(3, 32, 32), "keyframes": {0.01: torch.zeros(3, 32, 32)}}, "0 s and 0.01 s share"),
        ({"window": 5}, "5 frames shares 5"),
        ({"overlap": 4}, "share 4 frames.*give 5"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_at_once_in_one_line(pipe, options, message):
    arguments = {"prompt": "a bell", "tracks": tracks()} | options
    with pytest.raises(UserError, match=message):
        pipe.stream(**arguments)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("component", "method", "said"),
    [
        ("transformer", "denoise_video", "^video DiT with its control network: .* at step 1 of 2, window 1 of 1;"),
        ("text_encoder", "encode", "^text encoder: NaN or infinity in the embedding of a prompt;"),
        ("audio_encoder", "encode", "^encoder of speech and .*: NaN or infinity in the features of the sound;"),
        ("video_codec", "decode", "^video codec: NaN or infinity in what it decoded;"),
    ],
)
def test_what_is_not_finite_is_named_with_its_step(monkeypatch, component: str, method: str, said: str, value: float):
    pipe = MTVPipeline.from_pipe(joint())
    part = getattr(pipe, component)
    whole = getattr(part, method)

    def bad(*args, **options):
        made = whole(*args, **options)
        made.view(-1)[2] = value
        return made

    monkeypatch.setattr(part, method, bad)
    sound = Tracks([noise("voice", 1, RATE // 2).clamp(-1, 1)], None, None, RATE)
    with pytest.raises(UserError, match=said):
        pipe("a bell", sound, num_inference_steps=2)


def test_every_window_has_the_clock_of_the_frames_a_second(pipe, monkeypatch):
    """So that a stream with `frame_rate` is told the same in all of them, a last one of one latent more too."""
    clocks, denoise = [], pipe.transformer.denoise_video

    def spied(latents, sigma, text, clock, control):
        clocks.append(clock)
        return denoise(latents, sigma, text, clock, control)

    monkeypatch.setattr(pipe.transformer, "denoise_video", spied)
    options = {"num_inference_steps": 1, "guidance": NONE, "window": 13, "overlap": 5}
    made = pipe("a bell", tracks(seconds=1.0), fps=24.0, **options)
    assert made.fps == 24 and made.video.shape[1] == 24
    assert [(len(clock), clock.rate) for clock in clocks] == [(4, 6.0), (4, 6.0), (3, 6.0)]
    assert pipe("a bell", tracks(seconds=1.0), **options).fps == FPS and {clock.rate for clock in clocks[3:]} == {4.0}
    with pytest.raises(UserError, match="fps is 0; a number"):
        pipe("a bell", tracks(seconds=1.0), fps=0, **options)


def test_a_distilled_model_takes_one_evaluation_a_step_and_its_own_number_of_steps(caplog):
    streams = {
        "video": STREAM | {"in_channels": 48, "average": True},
        "audio": STREAM | {"in_channels": 5, "average": True},
    }
    held = {"steps": 3, "shifts": [1.5, 1.5], "guidance": {"mtv": {}}}
    model = randomise(DualStreamTransformer(**streams, cca_heads=2, cca_head_dim=12, context_tokens=2, distilled=held))
    pipe = driven(joint(), transformer=model)
    few_steps.warn.cache_clear()
    lower = []
    hook = model.register_forward_pre_hook(lambda _, args: lower.append(args[1].until))
    pipe("a bell", tracks())
    pipe("a bell", tracks(), guidance=TrackGuidance())
    assert len(lower) == 6 and not caplog.records
    levels = [0.75, 0.429, 0.0]  # shift 1.5 of 2/3, 1/3 and 0
    torch.testing.assert_close(torch.stack([one[0, 1] for one in lower[:3]]), torch.tensor(levels), rtol=0, atol=1e-3)
    pipe("a bell", tracks(), guidance=TrackGuidance(text=3.0, speech=1.0), num_inference_steps=2)
    assert len(lower) == 10 and "guidance separate of tracks: this model is distilled" in caplog.text
    pipe("a bell", tracks(), image=picture("first"), num_inference_steps=1)
    assert lower[-1][0, 0] == 0
    hook.remove()
    with pytest.raises(UserError, match="needs FlowMatchEulerDiscreteScheduler"):
        driven(joint("unipc"), transformer=model)("a bell", tracks())
