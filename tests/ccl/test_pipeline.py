"""CCLPipeline on a tiny model: what is drawn, kept, saved, and refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from tiny import CONFIG, counted, noise, transformer

from ccl.given import Given, GivenEncoder
from ccl.guidance import Form, Guidance
from ccl.pipeline import CCLPipeline
from ccl.routing import Task
from ccl.spans import in_clean_latents, latents_inside, spans_of
from shared.codecs import LinearAudioCodec, LinearVideoCodec, frames_to_tensor, tensor_to_frames
from shared.data.media_write import write_audio
from shared.encoders import HashedWords
from shared.encoders.timed_prompts import TimedPrompts
from shared.nn import few_steps as few_steps_module
from shared.nn.flow import shift, u_grid
from shared.utils.errors import UserError

SECONDS, SAMPLES = 13 / 16, 13_000
FPS: list[dict[str, float]] = [{}, {"fps": 24.0}]
ALONE = Guidance(Form.DUAL, (1.0, 1.0), (0.0, 0.0), (0.0, 1.0))  # v(c,0m)


def pipeline(frames_per_token: int = 4, solver: str = "euler") -> CCLPipeline:
    made = CCLPipeline(
        transformer(),
        LinearVideoCodec(latent_channels=4),
        LinearAudioCodec(latent_channels=5, frames_per_token=frames_per_token, iterations=2),
        HashedWords(dim=12, max_length=4),
        *(scheduler(solver, amount) for amount in (1.5, 1.2)),
        height=32,
        width=32,
    )
    made.set_progress_bar_config(disable=True)
    return made


def scheduler(solver: str, amount: float):
    if solver == "euler":
        return FlowMatchEulerDiscreteScheduler(shift=amount)
    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=amount)


@pytest.fixture(scope="module")
def pipe() -> CCLPipeline:
    return pipeline()


def sample(pipe: CCLPipeline, prompt="a bell", steps: int = 3, **options):
    """The output, and the latents after each step."""
    latents = []
    made = pipe(
        prompt,
        duration=SECONDS,
        num_inference_steps=steps,
        callback_on_step_end=lambda _, step, u, now: latents.append({name: x.clone() for name, x in now.items()}),
        **options,
    )
    return made, latents


def assert_same(ours, theirs) -> None:
    assert np.array_equal(ours.video, theirs.video) and np.array_equal(ours.audio, theirs.audio)


def assert_same_weights(ours: torch.nn.Module, theirs: torch.nn.Module) -> None:
    theirs_by_name = theirs.state_dict()
    assert set(ours.state_dict()) == set(theirs_by_name)
    assert all(torch.equal(value, theirs_by_name[name]) for name, value in ours.state_dict().items())


def test_a_sample_has_the_asked_sizes_and_ranges(pipe):
    made, latents = sample(pipe, ["a bell", "a drum"])
    assert made.video.shape == (2, 13, 32, 32, 3) and made.video.dtype == np.uint8
    assert made.audio.shape == (2, SAMPLES) and np.abs(made.audio).max() <= 1
    assert (made.fps, made.sample_rate, len(latents)) == (16, 16000, 3)
    assert latents[-1]["video"].isfinite().all() and not torch.equal(latents[0]["video"], latents[-1]["video"])


def test_a_seed_gives_one_sample_and_another_seed_another(pipe):
    first, _ = sample(pipe, seed=3)
    assert_same(sample(pipe, seed=3)[0], first)
    assert not np.array_equal(sample(pipe, seed=4)[0].video, first.video)


def test_a_prompt_of_a_batch_is_that_prompt_alone(pipe):
    _, together = sample(pipe, ["a bell", "a drum", "wind"], seed=5)
    for index, prompt in enumerate(("a bell", "a drum", "wind")):
        _, alone = sample(pipe, prompt, seed=5 + index)
        for name, value in alone[-1].items():
            torch.testing.assert_close(together[-1][name][index], value[0], rtol=0, atol=1e-4)
    _, chosen = sample(pipe, ["a bell", "wind"], seed=[5, 7])
    torch.testing.assert_close(chosen[-1]["video"][1], together[-1]["video"][2], rtol=0, atol=1e-4)


def test_the_videos_noise_does_not_change_with_the_sounds_length():
    longer, shorter = pipeline(frames_per_token=4), pipeline(frames_per_token=8)
    noises = [p._noise(Task.T2AV.route, p._size(Given(), SECONDS, None), [11, 12]) for p in (longer, shorter)]
    assert noises[0]["audio"].shape[1] == 21 and noises[1]["audio"].shape[1] == 11
    assert torch.equal(noises[0]["video"], noises[1]["video"])
    alone = longer._noise(Task.T2V.route, longer._size(Given(), SECONDS, None), [11, 12])
    assert set(alone) == {"video"} and torch.equal(alone["video"], noises[0]["video"])
    assert not torch.equal(noises[0]["video"][0], noises[0]["video"][1])


def test_at_0m_the_video_of_t2av_does_not_depend_on_the_sound_and_is_that_of_t2v():
    runs = [sample(pipeline(frames_per_token=k), seed=2, guidance=ALONE)[1] for k in (4, 8)]
    assert runs[0][-1]["audio"].shape != runs[1][-1]["audio"].shape
    assert torch.equal(runs[0][-1]["video"], runs[1][-1]["video"])
    assert torch.equal(sample(pipeline(), seed=2, task="t2v", guidance=ALONE)[1][-1]["video"], runs[0][-1]["video"])
    assert torch.equal(sample(pipeline(), seed=2, task="t2a", guidance=ALONE)[1][-1]["audio"], runs[0][-1]["audio"])


def test_sampling_runs_without_gradients(pipe):
    enabled = []

    def look(_, step, u, latents):
        enabled.append((torch.is_grad_enabled(), latents["video"].requires_grad))

    assert all(parameter.requires_grad for parameter in pipe.transformer.parameters())
    pipe("a bell", duration=SECONDS, num_inference_steps=1, callback_on_step_end=look)
    assert enabled == [(False, False)] and torch.is_grad_enabled()


def test_a_callback_sees_u_and_may_replace_latents(pipe):
    seen = []

    def silence(_, step, u, latents):
        seen.append((step, round(u, 3)))
        return {"audio": torch.zeros_like(latents["audio"])}

    made = pipe("a bell", duration=SECONDS, num_inference_steps=4, callback_on_step_end=silence)
    assert seen == [(0, 1.0), (1, 0.75), (2, 0.5), (3, 0.25)]
    floor = pipe.audio_codec.decode(torch.zeros(1, 21, 5), SAMPLES)[:, 0].numpy()
    assert np.array_equal(made.audio, floor)


def test_a_given_image_stays_exactly_the_first_latent(pipe):
    image = noise("image", 2, 3, 32, 32).clamp(-1, 1)
    first = pipe.video_codec.encode(image[:, :, None])
    for task in ("t2av", "t2v"):
        _, latents = sample(pipe, ["a bell", "a drum"], image=image, task=task)
        assert len(latents) == 3
        for now in latents:
            assert torch.equal(now["video"][:, :, :1], first)
        assert not torch.allclose(latents[-1]["video"][:, :, 1:2], first, atol=0.1)
    _, shared = sample(pipe, ["a bell", "a drum"], image=image[:1])
    assert torch.equal(shared[-1]["video"][1, :, :1], first[0])


def test_a_given_sound_drives_the_video_and_a_given_video_the_sound(pipe):
    sound, video = noise("sound", 1, 1, SAMPLES) * 0.1, noise("video", 1, 3, 13, 32, 32).clamp(-1, 1)
    made, latents = sample(pipe, audio=sound, seed=1)
    assert made.audio is None and set(latents[0]) == {"video"}
    other, _ = sample(pipe, audio=sound.flip(-1).contiguous(), seed=1)
    assert made.video.shape == (1, 13, 32, 32, 3) and not np.array_equal(made.video, other.video)
    made, latents = sample(pipe, video=video, seed=1)
    assert made.video is None and made.audio.shape == (1, SAMPLES) and set(latents[0]) == {"audio"}


def test_a_given_stream_a_little_short_ends_in_silence_or_in_its_last_picture(pipe):
    sound, video = noise("sound", 1, 1, SAMPLES) * 0.1, noise("video", 1, 3, 33, 32, 32).clamp(-1, 1)
    short = sound[..., : SAMPLES - 400]
    padded = torch.nn.functional.pad(short, (0, 400))
    assert torch.equal(sample(pipe, audio=short)[1][-1]["video"], sample(pipe, audio=padded)[1][-1]["video"])
    size = pipe._size(Given(), 33 / 16, None)
    held = torch.cat([video[:, :, :32], video[:, :, 31:32]], dim=2)
    given = [Given(video=clip) for clip in (video[:, :, :32], held)]
    kept = [
        GivenEncoder(pipe.components, size, 1, torch.device("cpu"))(Task.V2A, one).streams["video"] for one in given
    ]
    assert torch.equal(*kept)


def test_the_audio_prompt_is_what_the_sound_reads(pipe):
    _, same = sample(pipe, "a bell", audio_prompt="a bell", guidance=ALONE)
    _, plain = sample(pipe, "a bell", guidance=ALONE)
    _, other = sample(pipe, "a bell", audio_prompt="wind", guidance=ALONE)
    assert torch.equal(same[-1]["audio"], plain[-1]["audio"])
    assert torch.equal(other[-1]["video"], plain[-1]["video"])
    assert not torch.allclose(other[-1]["audio"], plain[-1]["audio"], atol=1e-3)


def test_timed_prompts_of_equal_texts_are_a_constant_prompt(pipe):
    _, timed = sample(pipe, TimedPrompts((0.0, 0.4), ("a bell", "a bell")), seed=1)
    _, constant = sample(pipe, "a bell", seed=1)
    for name, value in constant[-1].items():
        assert torch.equal(timed[-1][name], value)


def test_save_and_load_give_the_same_samples(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    loaded = CCLPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert (loaded.config.fps, loaded.config.height) == (16.0, 32)
    assert not list(tmp_path.rglob("*.bin")) and (tmp_path / "transformer").is_dir()
    for name in ("transformer", "video_codec", "audio_codec"):
        assert_same_weights(getattr(loaded, name), getattr(pipe, name))
    assert_same(sample(loaded, seed=8)[0], sample(pipe, seed=8)[0])


def test_unipc_takes_the_place_of_euler_on_the_same_sigmas(pipe):
    multistep = pipeline(solver="unipc")
    _, latents = sample(multistep, seed=1, steps=8)
    for solver, amount in ((multistep.scheduler, 1.5), (multistep.audio_scheduler, 1.2)):
        torch.testing.assert_close(solver.sigmas[:-1].double(), shift(u_grid(8), amount), rtol=0, atol=1e-5)
    _, euler = sample(pipe, seed=1, steps=8)
    for name, value in latents[-1].items():
        assert value.isfinite().all()
        assert not torch.allclose(value, euler[-1][name], atol=1e-4)
        assert torch.corrcoef(torch.stack([value.flatten(), euler[-1][name].flatten()]))[0, 1] > 0.5


def test_a_step_evaluates_only_what_guidance_needs(pipe):
    for guidance, count in (
        (Guidance(Form.DUAL, (2.0, 2.0), (2.0, 2.0)), 2),
        (Guidance(Form.DUAL, (3.0, 3.0), (2.0, 2.0)), 3),
        (ALONE, 1),
    ):
        with counted(pipe.transformer) as routes:
            sample(pipe, steps=2, guidance=guidance)
        assert len(routes) == 2 * count


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"duration": 0.0}, "duration 0.0 s"),
        ({"duration": -1.0}, "duration -1.0 s"),
        ({"duration": float("nan")}, "duration nan s"),
        ({"duration": float("inf")}, "duration inf s"),
        ({"height": 0}, "multiples of 16"),
        ({"width": 40}, "32x40.*multiples of 16"),
        ({"num_inference_steps": 0}, "0 sampling steps"),
        ({"task": "tv2a"}, "'tv2a' is unknown"),
        ({"task": "a2v"}, "needs the given audio"),
        ({"seed": [1, 2]}, "2 seeds for 1 prompts"),
        ({"audio_prompt": ["a", "b"]}, "2 audio prompts for 1 prompts"),
        ({"audio": torch.zeros(1, 1, 900), "duration": 2.0}, "900 samples.*needs 32000"),
        ({"audio": torch.zeros(3, 1, 32000)}, "3 of the given audio for 1 prompts"),
        ({"video": torch.zeros(1, 3, 32, 64, 32)}, "the video is 64x32; the sample is 32x32"),
        ({"video": torch.zeros(1, 3, 9, 32, 32), "duration": 2.0}, "9 frames.*needs 32"),
        ({"image": torch.zeros(1, 3, 32, 64)}, "the image is 32x64"),
    ],
)
def test_bad_input_is_refused_in_one_line(pipe, options, message):
    with pytest.raises(UserError, match=message):
        pipe("a bell", **options)


def given_clip(batch: int = 1) -> dict:
    """Pictures as files have them, and a sound, of the length of a sample."""
    frames = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (batch, 13, 32, 32, 3), dtype=np.uint8))
    return {"video": frames_to_tensor(frames), "audio": noise("kept", batch, 1, SAMPLES).clamp(-3, 3) * 0.1}


@pytest.mark.parametrize("keep", [[(0.0, 0.4)], [(0.4, SECONDS)], [(0.1, 0.6)], [(0.0, 0.1), (0.56, SECONDS)]])
def test_kept_spans_are_the_given_ones_to_the_bit_and_the_rest_is_made(pipe, keep):
    given = given_clip()
    made, latents = sample(pipe, ["a bell", "a drum"], keep=keep, seed=3, **given)
    free, _ = sample(pipe, ["a bell", "a drum"], seed=3)
    frames, sound = frames_of(given), given["audio"][0].numpy()
    clocks = pipe._size(Given(), SECONDS, None).clocks
    for name, output, other, original, clock, rate in (
        ("video", made.video, free.video, frames, clocks[0], 16),
        ("audio", made.audio, free.audio, sound, clocks[1], 16000),
    ):  # fmt: skip
        mask = latents_inside(clock, keep, SECONDS)
        assert mask.any() and not mask.all()
        kept = in_clean_latents(clock, mask, output.shape[1], rate).numpy()
        assert made.kept[name] == spans_of(torch.from_numpy(kept), rate)
        for row in range(2):
            assert np.array_equal(output[row, kept], original[0, kept])
            assert not np.array_equal(output[row, ~kept], other[row, ~kept])  # what is kept is read by what is made
        encoded = getattr(pipe, f"{name}_codec").encode(given[name])
        axis = 2 if name == "video" else 1
        for now in latents:
            clean = now[name].movedim(axis, 0)[mask]
            assert torch.equal(clean, encoded.movedim(axis, 0)[mask].expand_as(clean))


def frames_of(given: dict) -> np.ndarray:
    return tensor_to_frames(given["video"]).numpy()


def test_spans_go_by_the_frame_rate_of_the_call(pipe):
    given = given_clip()
    made, _ = sample(pipe, video=given["video"], keep=[(0.0, 0.4)], fps=24.0)
    assert made.fps == 24 and made.kept == {"video": [(0.0, 9 / 24)]}
    frames = frames_of(given)[0]
    assert np.array_equal(made.video[0, :9], frames[:9]) and not np.array_equal(made.video[0, 9:13], frames[9:])


def test_spans_of_one_stream_leave_the_other_to_be_made(pipe):
    given = given_clip()
    made, latents = sample(pipe, video=given["video"], keep=[(0.0, 0.4)])
    assert set(made.kept) == {"video"} and set(latents[0]) == {"video", "audio"}
    made, _ = sample(pipe, audio=given["audio"], keep_audio=[(0.2, 0.4)], task="t2a")
    assert made.video is None and made.kept == {"audio": [(0.2, 0.4)]}
    assert np.array_equal(made.audio[0, 3200:6400], given["audio"][0, 0, 3200:6400].numpy())
    both, _ = sample(pipe, keep=[(0.0, 0.4)], keep_audio=[(0.4, 0.8)], **given)
    assert both.kept == {"video": [(0.0, 5 / 16)], "audio": [(0.4, 0.8)]}
    whole, latents = sample(pipe, keep=[(0.0, 0.4)], task="a2v", **given)
    assert whole.audio is None and whole.kept == {"video": [(0.0, 5 / 16)]} and set(latents[0]) == {"video"}
    assert np.array_equal(whole.video[0, :5], frames_of(given)[0, :5])


def test_a_clip_is_continued_from_what_is_given_of_it(pipe):
    given = given_clip()
    short = {"video": given["video"][:, :, :5], "audio": given["audio"][..., :5000]}
    made, _ = sample(pipe, keep=[(0.0, 5 / 16)], **short)
    assert np.array_equal(made.video[0, :5], frames_of(short)[0]) and made.video.shape[1] == 13
    assert np.array_equal(made.audio[0, :4480], short["audio"][0, 0, :4480].numpy())  # seven tokens of 0.04 s


def test_what_is_kept_narrows_to_whole_latents_and_says_so(pipe, caplog):
    sample(pipe, video=given_clip()["video"], keep=[(0.0, 5 / 16)])
    assert not caplog.messages
    sample(pipe, video=given_clip()["video"], keep=[(0.0, 0.4)])
    assert caplog.messages == [
        "of the video 0 to 0.312 s stay as given, of 0 to 0.4 s asked for: what is made widens to whole latents"
    ]


def test_an_image_begins_a_clip_whose_end_is_kept(pipe):
    given, image = given_clip(), noise("image", 1, 3, 32, 32).clamp(-1, 1)
    made, latents = sample(pipe, video=given["video"], keep=[(0.5, SECONDS)], image=image)
    assert torch.equal(latents[-1]["video"][:, :, :1], pipe.video_codec.encode(image[:, :, None]))
    assert np.array_equal(made.video[0, 9:], frames_of(given)[0, 9:]) and made.kept == {"video": [(9 / 16, SECONDS)]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": [(0.0, 2.0)]}, r"keep has 0 to 2 s; .* in 0 to 0.8125 s"),
        ({"keep": []}, "keep is empty"),
        ({"keep": [(0.1, 0.2)]}, "spans that stay of the video, 0.1 to 0.2 s, hold no whole latent; lengthen them"),
        ({"keep": [(0.0, SECONDS)]}, "spans that stay of the video, 0 to 0.812 s, hold all of it; give it whole"),
        ({"keep": [(0.0, 0.4)], "image": torch.zeros(1, 3, 32, 32)}, "image and keep both give the first frame"),
        ({"keep": [(0.5, SECONDS)], "short": 5}, "the given video has 5 frames, and 13 are to stay as they are"),
    ],
)
def test_spans_that_do_not_fit_are_refused_in_one_line(pipe, options, message):
    options = dict(options)
    video = given_clip()["video"][:, :, : options.pop("short", 13)]
    with pytest.raises(UserError, match=message):
        sample(pipe, video=video, **options)


@pytest.fixture(scope="module")
def part_pipe(pipe) -> CCLPipeline:
    made = CCLPipeline(
        **pipe.components | {"transformer": transformer(parts=["speech", "effects"])}, height=32, width=32
    )
    made.set_progress_bar_config(disable=True)
    return made


def test_a_given_track_shapes_the_mix_and_the_video(part_pipe, tmp_path):
    speech = noise("speech", 1, SAMPLES).numpy() * 0.1
    made, latents = sample(part_pipe, given_speech=(speech, 16000), seed=1)
    assert made.video.shape == (1, 13, 32, 32, 3) and made.audio.shape == (1, SAMPLES) and made.kept is None
    plain, _ = sample(part_pipe, seed=1)
    assert not np.array_equal(made.audio, plain.audio) and not np.array_equal(made.video, plain.video)
    other, _ = sample(part_pipe, given_effects=(speech, 16000), seed=1)
    assert not np.array_equal(other.audio, made.audio)
    write_audio(tmp_path / "speech.wav", np.round(speech * 32768) / 32768, 16000)
    _, read = sample(part_pipe, given_speech=tmp_path / "speech.wav", seed=1)
    torch.testing.assert_close(read[-1]["audio"], latents[-1]["audio"], rtol=0, atol=0.05)


def test_without_parts_given_a_model_with_parts_samples_as_one_without(part_pipe, pipe):
    assert_same(sample(part_pipe, seed=4)[0], sample(pipe, seed=4)[0])


def test_a_given_track_with_kept_spans(part_pipe):
    given, speech = given_clip(), (noise("speech", 1, SAMPLES).numpy() * 0.1, 16000)
    made, _ = sample(part_pipe, given_speech=speech, video=given["video"], keep=[(0.0, 0.4)])
    assert np.array_equal(made.video[0, :5], frames_of(given)[0, :5])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"given_speech": (np.ones(900, np.float32), 16000)},
            "the given speech has 900 samples, the sample needs 13000",
        ),
        ({"given_speech": (np.zeros(SAMPLES), 16000)}, "given_speech: its sound is silent"),
        ({"given_speech": "nowhere.wav"}, "nowhere.wav"),
        ({"task": "part"}, "task part needs a given track"),
    ],
)
def test_a_track_that_does_not_fit_is_refused_in_one_line(part_pipe, options, message):
    with pytest.raises(UserError, match=message):
        sample(part_pipe, **options)


def test_a_model_without_parts_refuses_a_track(pipe):
    with pytest.raises(UserError, match="given_effects: this model can be given no track; train it with task part"):
        sample(pipe, given_effects=(noise("speech", 1, SAMPLES), 16000))


@pytest.mark.parametrize("name", ["text_encoder", "transformer", "audio_codec"])
def test_a_checkpoint_without_a_component_is_refused_in_one_line(pipe, tmp_path, name):
    pipe.save_pretrained(tmp_path / "saved")
    file = tmp_path / "saved/model_index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {name: [None, None]}))
    with pytest.raises(UserError, match=f"saved: no {name};"):
        CCLPipeline.from_pretrained(tmp_path / "saved")


def test_a_pipeline_without_a_component_says_so_when_it_is_to_sample(pipe):
    bare = CCLPipeline(**{**pipe.components, "audio_codec": None})
    with pytest.raises(UserError, match="no audio_codec"):
        bare("a bell", duration=0.5, num_inference_steps=1)


def spoilt(pipe: CCLPipeline, name: str, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its second use on, what `name`, COMPONENT.METHOD, makes holds `value` at one place."""
    component, _, method = name.partition(".")
    part, uses = getattr(pipe, component), []
    whole = getattr(part, method)

    def bad(*args, **options):
        uses.append(1)
        made = whole(*args, **options)
        if len(uses) > (component == "transformer"):
            tensors = [x for x in (made if isinstance(made, tuple) else [made]) if x is not None]
            tensors[-1][(0,) * tensors[-1].ndim] = value
        return made

    monkeypatch.setattr(part, method, bad)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("transformer.forward", {"task": "t2v"}, "^video DiT: NaN or infinity in the latents at step 2 of 3;"),
        ("transformer.forward", {"task": "t2a"}, "^audio DiT: NaN or infinity in the latents at step 2 of 3;"),
        ("transformer.forward", {}, "^audio DiT: NaN or infinity in the latents at step 2 of 3;"),
        ("text_encoder.encode", {}, "^text encoder: NaN or infinity in the embedding of a prompt;"),
        ("video_codec.decode", {}, "^video codec: NaN or infinity in what it decoded;"),
        ("audio_codec.decode", {}, "^audio codec: NaN or infinity in what it decoded;"),
        ("audio_codec.encode", {"audio": 1}, "^audio codec: NaN or infinity in the latents of what is given;"),
        ("video_codec.encode", {"image": 1}, "^video codec: NaN or infinity in the latents of what is given;"),
    ],
)
def test_what_is_not_finite_is_named_with_its_step(monkeypatch, name: str, options: dict, said: str, value: float):
    pipe = pipeline()
    given = {"audio": torch.zeros(1, 1, SAMPLES), "image": torch.zeros(1, 3, 32, 32)}
    spoilt(pipe, name, value, monkeypatch)
    with pytest.raises(UserError, match=said):
        sample(pipe, guidance=Guidance(Form.NONE), **{key: given.get(key, value) for key, value in options.items()})


@pytest.mark.parametrize("name", ["transformer", "video_codec", "audio_codec", "text_encoder"])
def test_a_weight_that_is_not_finite_is_found_when_loading(tmp_path, name: str) -> None:
    pipe = pipeline()
    weights = [*getattr(pipe, name).named_parameters(), *getattr(pipe, name).named_buffers()]
    key, last = [pair for pair in weights if pair[0] in getattr(pipe, name).state_dict()][-1]
    last.data.view(-1)[0] = float("nan")
    pipe.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=f"checkpoint .*: {name}: the weight {key} holds NaN or infinity"):
        CCLPipeline.from_pretrained(tmp_path)


def test_frames_a_second_reach_the_transformers_clock(pipe):
    """24 a second make 6 latents a second; what is not said is the pipeline's own."""
    clocks = []
    hook = pipe.transformer.register_forward_pre_hook(
        lambda _, args: clocks.append([given.clock for given in args[1:3]])
    )
    try:
        made = [pipe("a bell", duration=1.0, num_inference_steps=1, guidance=Guidance(Form.NONE), **one) for one in FPS]
    finally:
        hook.remove()
    assert [(one.fps, one.video.shape[1], one.audio.shape[1]) for one in made] == [(16, 16, 16000), (24, 24, 16000)]
    assert [(video.rate, len(video), audio.rate, len(audio)) for video, audio in clocks] == [
        (4.0, 5, 25.0, 25), (6.0, 7, 25.0, 25),
    ]  # fmt: skip
    assert clocks[1][0].starts[:3] == (0.0, 1 / 24, 5 / 24)


@pytest.mark.parametrize("fps", [0, -1.0, float("nan"), float("inf"), True])
def test_frames_a_second_that_there_are_not_are_refused(pipe, fps):
    with pytest.raises(UserError, match=f"fps is {fps!r}; a number from 0.001 to 1000 is needed"):
        pipe("a bell", fps=fps)


def few_steps(solver: str = "euler", shifts: tuple[float, float] = (1.5, 1.2)) -> CCLPipeline:
    """A pipeline whose model is distilled, with random weights."""
    streams = {name: CONFIG[name] | {"average": True} for name in ("video", "audio")}
    every = ("t2av", "a2v", "v2a", "t2v", "t2a")
    held = {"steps": 4, "shifts": list(shifts), "guidance": {key: {} for key in every}}
    made = pipeline(solver=solver)
    made.register_modules(transformer=transformer(**streams, distilled=held))
    return made


@pytest.mark.parametrize("task", ["t2av", "t2v", "t2a", "a2v", "v2a"])
def test_a_distilled_model_takes_one_evaluation_a_step_and_its_own_number_of_steps(task, caplog):
    pipe, given = few_steps(), {}
    if task == "a2v":
        given["audio"] = noise("sound", 1, 1, SAMPLES) / 10
    if task == "v2a":
        given["video"] = noise("film", 1, 3, 13, 32, 32).clamp(-1, 1)
    contexts, run = [], pipe.transformer.context
    pipe.transformer.context = lambda *arguments: contexts.append(arguments) or run(*arguments)
    for steps, expected in ((None, 4), (1, 1), (7, 7)):
        contexts.clear()
        with counted(pipe.transformer) as routes:
            pipe("a bell", task=task, duration=SECONDS, num_inference_steps=steps, **given)
        assert len(routes) == expected and set(routes) == {Task(task).route}
        assert len(contexts) == len(given)  # a given stream is run once
    assert not caplog.records


def test_the_jumps_of_a_known_map_lead_to_its_end_in_any_number_of_steps(monkeypatch):
    """From N(0, 0.5²) at sigma 0 to N(0, 1) at 1: what is drawn is halved."""
    pipe = few_steps()

    def known(route, video, audio, video_control=None):
        def jump(given):
            first, last = (((1 - level) / 2).square() + level.square() for level in (given.sigma, given.until))
            mean = ((1 - (last / first).sqrt()) / (given.sigma - given.until))[:, :1]
            return given.latents * mean.reshape(-1, *[1] * (given.latents.ndim - 1))

        return jump(video), jump(audio)

    monkeypatch.setattr(pipe.transformer, "forward", known)
    drawn = pipe._noise(Task.T2AV.route, pipe._size(Given(), SECONDS, None), [3])
    for steps in (1, 2, 4):
        _, latents = sample(pipe, steps=steps, seed=3)
        for name, value in latents[-1].items():
            torch.testing.assert_close(value, drawn[name] / 2, rtol=0, atol=1e-5)


def test_a_distilled_model_is_guided_only_where_that_is_asked_for_and_told(caplog):
    few_steps_module.warn.cache_clear()
    pipe = few_steps()
    with counted(pipe.transformer) as routes:
        sample(pipe, steps=2, guidance=Guidance())
        sample(pipe, steps=2, guidance=Guidance(Form.NONE))
    assert len(routes) == 4 and not caplog.records
    with counted(pipe.transformer) as routes:
        sample(pipe, steps=2, guidance=Guidance(text_scale=(3.0, 3.0), interval=(0.0, 1.0)))
    assert len(routes) == 6
    assert [record.getMessage()[:14] for record in caplog.records] == ["guidance dual:"]


def test_only_eulers_method_samples_a_distilled_model():
    with pytest.raises(UserError, match="the video's solver is UniPCMultistepScheduler; this model is distilled"):
        sample(few_steps("unipc"))


def test_a_grid_that_it_was_not_made_for_is_told(caplog):
    few_steps_module.warn.cache_clear()
    sample(few_steps(shifts=(2.0, 1.2)), steps=2)
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith("the video's noise levels 1.000, 0.600 are not those of shift 2")
