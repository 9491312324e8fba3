"""Guided steps through the real model: UCG's identities, how often the model runs, clean streams, timed prompts."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from tiny import AUDIO, AUDIO_CLOCK, CONFIG, TEXT, VIDEO, VIDEO_CLOCK, counted, noise, transformer

from ccl.given import with_first
from ccl.guidance import Form, Guidance
from ccl.parts import GivenPart
from ccl.routing import Reads, Task
from ccl.sampler import Clean, Conditions, JointSampler
from ccl.transformer import StreamInput
from shared.encoders import HashedWords
from shared.encoders.timed_prompts import TimedPrompts
from shared.nn.timed_text import TimedText
from shared.utils.errors import UserError

SIGMAS = {"video": 0.7, "audio": 0.6}
CLOCKS = (VIDEO_CLOCK, AUDIO_CLOCK)
ENCODER = HashedWords(dim=TEXT[1], max_length=TEXT[0])


@pytest.fixture(scope="module")
def model():
    return transformer()


def conditions(prompts=("a bell", "a drum"), audio_prompts=None, negative="") -> Conditions:
    heard = prompts if audio_prompts is None else audio_prompts
    return Conditions.build(ENCODER, prompts, heard, negative, CLOCKS, torch.device("cpu"), torch.float32)


def latents(name: str = "x", batch: int = 2) -> dict[str, torch.Tensor]:
    return {"video": noise(f"v{name}", batch, *VIDEO), "audio": noise(f"a{name}", batch, *AUDIO)}


def sampler(model, task: Task, guidance: Guidance, given=None, texts=None, clean=None, part=None) -> JointSampler:
    return JointSampler(model, task.route, texts or conditions(), CLOCKS, guidance, given or {}, clean, part)


@torch.no_grad()
def guided(model, task: Task, *guidance, given=None, texts=None) -> tuple[dict[str, torch.Tensor], int]:
    """The velocity of one step, and how many forward passes it took."""
    given = given or {}
    noisy = {name: value for name, value in latents().items() if name not in given}
    with counted(model) as routes:
        out = sampler(model, task, Guidance(*guidance), given, texts).velocity(noisy, SIGMAS)
    return out, len(routes)


def assert_equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert set(ours) == set(theirs)
    for name, value in ours.items():
        assert value.std() > 0.05
        torch.testing.assert_close(value, theirs[name], rtol=0, atol=1e-5)


@torch.no_grad()
def plain(model, route, text) -> dict[str, torch.Tensor]:
    """One evaluation of the model itself."""
    x = latents()
    video = StreamInput(x["video"], torch.full((2,), SIGMAS["video"]), text, VIDEO_CLOCK)
    audio = StreamInput(x["audio"], torch.full((2,), SIGMAS["audio"]), text, AUDIO_CLOCK)
    return dict(zip(("video", "audio"), model(route, video, audio), strict=True))


@pytest.mark.parametrize("form", Form)
def test_weights_of_one_are_one_plain_evaluation(model, form):
    out, calls = guided(model, Task.T2AV, form, (1.0, 1.0), (1.0, 1.0))
    assert calls == 1
    assert_equal(out, plain(model, Task.T2AV.route, conditions().texts["video"]))


@pytest.mark.parametrize("w", [2.0, 3.5])
def test_dual_of_equal_weights_is_joint(model, w):
    dual, calls = guided(model, Task.T2AV, Form.DUAL, (w, w), (w, w))
    joint, joint_calls = guided(model, Task.T2AV, Form.JOINT, (w, w))
    assert (calls, joint_calls) == (2, 2)
    assert_equal(dual, joint)


@pytest.mark.parametrize("w", [2.0, 3.5])
def test_dual_with_text_weight_one_is_context(model, w):
    dual, calls = guided(model, Task.T2AV, Form.DUAL, (1.0, 1.0), (w, w))
    context, context_calls = guided(model, Task.T2AV, Form.CONTEXT, (9.0, 9.0), (w, w))
    assert (calls, context_calls) == (2, 2)
    assert_equal(dual, context)


@pytest.mark.parametrize("w", [2.0, 3.5])
def test_dual_with_context_weight_zero_is_text_guidance_of_the_single_towers(model, w):
    dual, calls = guided(model, Task.T2AV, Form.DUAL, (w, w), (0.0, 0.0))
    assert calls == 2
    video, _ = guided(model, Task.T2V, Form.TEXT, (w, w))
    audio, _ = guided(model, Task.T2A, Form.TEXT, (w, w))
    assert_equal(dual, video | audio)


def test_each_form_runs_the_model_as_often_as_it_must(model):
    expected = {Form.DUAL: 3, Form.JOINT: 2, Form.CONTEXT: 2, Form.TEXT: 2, Form.NONE: 1}
    for form, count in expected.items():
        assert guided(model, Task.T2AV, form, (4.0, 3.0), (2.0, 1.5))[1] == count, form


def test_dual_is_its_formula_with_weights_per_stream(model):
    text, empty = conditions().texts["video"], conditions().negative
    route = Task.T2AV.route
    full, text_only = plain(model, route, text), plain(model, route.unconditional, text)
    nothing = plain(model, route.unconditional, empty)
    w_c, w_m = {"video": 2.5, "audio": 3.0}, {"video": 2.0, "audio": 1.5}
    expected = {}
    for name in SIGMAS:  # in float64: the formula's own rounding is not what is measured
        c, m, none = text_only[name].double(), full[name].double(), nothing[name].double()
        expected[name] = (none + w_c[name] * (c - none) + w_m[name] * (m - c)).float()
    assert_equal(guided(model, Task.T2AV, Form.DUAL, (2.5, 3.0), (2.0, 1.5))[0], expected)


def test_a_stream_that_a_state_is_not_wanted_for_is_not_computed(model):
    with counted(model) as routes:
        guided(model, Task.T2AV, Form.DUAL, (1.0, 3.0), (1.0, 1.0))
    assert [(route.video, route.audio) for route in routes] == [
        (Reads.SKIPPED, Reads.CONTEXT), (Reads.SKIPPED, Reads.CONTEXT), (Reads.CROSS_MODAL, Reads.CROSS_MODAL),
    ]  # fmt: skip


@pytest.mark.parametrize(("task", "clean", "made"), [(Task.A2V, "audio", "video"), (Task.V2A, "video", "audio")])
def test_a_clean_stream_runs_once_per_text_and_gives_what_one_pass_gives(model, monkeypatch, task, clean, made):
    runs, original = [], model.context
    monkeypatch.setattr(model, "context", lambda *args: (runs.append(args[0]), original(*args))[1])
    given = {clean: latents("y")[clean]}
    one = sampler(model, task, Guidance(Form.TEXT, (3.0, 3.0)), given)
    noisy = {made: latents()[made]}
    with torch.no_grad():
        first, again = one.velocity(noisy, SIGMAS), one.velocity(noisy, SIGMAS)
    assert runs == [clean, clean]  # the prompt and the empty text, not the step
    assert torch.equal(first[made], again[made])

    x = latents() | given
    level = {name: torch.full((2,), 0.0 if name == clean else SIGMAS[name]) for name in SIGMAS}
    text = conditions().texts["video"]
    with torch.no_grad():
        v, a = model(
            task.route,
            StreamInput(x["video"], level["video"], text, VIDEO_CLOCK),
            StreamInput(x["audio"], level["audio"], text, AUDIO_CLOCK),
        )
    unguided, _ = guided(model, task, Form.NONE, given=given)
    torch.testing.assert_close(unguided[made], v if made == "video" else a, rtol=0, atol=1e-5)


def test_guidance_of_a_clean_streams_reader_holds_the_identities_too(model):
    given = {"audio": latents("y")["audio"]}
    assert_equal(
        guided(model, Task.A2V, Form.DUAL, (3.0, 3.0), (3.0, 3.0), given=given)[0],
        guided(model, Task.A2V, Form.JOINT, (3.0, 3.0), given=given)[0],
    )
    assert_equal(
        guided(model, Task.A2V, Form.DUAL, (3.0, 3.0), (0.0, 0.0), given=given)[0],
        guided(model, Task.T2V, Form.TEXT, (3.0, 3.0))[0],
    )


def test_outside_the_interval_nothing_is_guided(model):
    out, calls = guided(model, Task.T2AV, Form.DUAL, (4.0, 4.0), (2.0, 2.0), (0.8, 1.0))
    assert calls == 1
    assert_equal(out, plain(model, Task.T2AV.route, conditions().texts["video"]))


def test_timed_prompts_of_equal_texts_are_a_constant_prompt_to_the_bit(model):
    timed = [TimedPrompts((0.0, 0.3, 0.5), (text,) * 3) for text in ("a bell", "a drum")]
    scales = (Form.DUAL, (3.0, 3.0), (2.0, 2.0))
    constant, _ = guided(model, Task.T2AV, *scales)
    found, _ = guided(model, Task.T2AV, *scales, texts=conditions(timed))
    assert all(torch.equal(found[name], value) for name, value in constant.items())


@pytest.mark.parametrize(("task", "clock"), [(Task.T2V, VIDEO_CLOCK), (Task.T2A, AUDIO_CLOCK)])
def test_timed_prompts_hold_each_at_its_time(task, clock):
    """Over one block no latent has read another's text yet."""
    shallow = transformer(**{name: {**CONFIG[name], "num_layers": 1} for name in ("video", "audio")})
    name = "video" if task is Task.T2V else "audio"

    def made(*prompts):
        found, calls = guided(shallow, task, Form.NONE, texts=conditions(prompts))
        assert calls == 1
        return found[name] if name == "audio" else found[name].flatten(3).permute(0, 2, 1, 3)  # latents second

    mixed = made(TimedPrompts((0.0, 0.5), ("a bell", "a drum")), "a ball")
    bell, drum = made("a bell", "a ball"), made("a drum", "a ball")
    early = clock.centres < 0.5
    assert early.any() and not early.all()
    for expected, latents in ((bell, early), (drum, ~early)):
        torch.testing.assert_close(mixed[0, latents], expected[0, latents], rtol=0, atol=1e-5)
    torch.testing.assert_close(mixed[1], bell[1], rtol=0, atol=1e-5)
    assert not torch.allclose(bell[0], drum[0], atol=1e-3)
    faded = made(TimedPrompts((0.0, 0.5), ("a bell", "a drum"), fade=0.3), "a ball")
    inside = (clock.centres - 0.5).abs() < 0.15
    torch.testing.assert_close(faded[0, ~inside], mixed[0, ~inside], rtol=0, atol=1e-5)
    assert inside.any() and not torch.allclose(faded[0, inside], mixed[0, inside], atol=1e-3)


def test_a_constant_sound_beside_a_timed_picture_keeps_its_text(model):
    timed = conditions([TimedPrompts((0.0, 0.4), ("a bell", "a drum"))] * 2, ["wind"] * 2)
    assert isinstance(timed.texts["video"], TimedText) and isinstance(timed.texts["audio"], torch.Tensor)
    heard, _ = guided(model, Task.T2A, Form.NONE, texts=timed)
    assert_equal(heard, guided(model, Task.T2A, Form.NONE, texts=conditions(("wind", "wind")))[0])


def test_texts_over_time_cost_no_evaluation_and_the_negative_text_stands_for_all_of_them(model):
    timed = conditions([TimedPrompts((0.0, 0.2, 0.4, 0.6), ("a bell", "a drum", "rain", "wind")), "a ball"])
    for form, count in {Form.DUAL: 3, Form.JOINT: 2, Form.CONTEXT: 2, Form.TEXT: 2, Form.NONE: 1}.items():
        assert guided(model, Task.T2AV, form, (4.0, 3.0), (2.0, 1.5), texts=timed)[1] == count
    both, told = (guided(model, Task.T2AV, Form.TEXT, (w, w), texts=timed)[0] for w in (0.0, 1.0))
    assert_equal(both, plain(model, Task.T2AV.route, conditions().negative))
    assert not torch.allclose(told["video"], both["video"], atol=1e-2)


@pytest.mark.parametrize("fusion", ["cca", "full", "appended"])
@pytest.mark.parametrize("task", [Task.T2AV, Task.A2V, Task.V2A])
def test_a_batch_of_different_cuts_is_its_samples_alone(fusion, task):
    prompts = [TimedPrompts((0.0, 0.2, 0.5), ("a bell", "a drum", "rain")), "a ball",
               TimedPrompts((0.0, 0.4), ("wind", "a bell"), fade=0.4)]  # fmt: skip
    heard = ["rain", TimedPrompts((0.0, 0.3), ("a drum", "wind")), prompts[2]]
    x, model = latents(batch=3), transformer(fusion=fusion)
    given = {name: x[name] for name in ("video", "audio") if not getattr(task.route, f"{name}_noisy")}

    @torch.no_grad()
    def velocity(rows: list[int]) -> dict[str, torch.Tensor]:
        texts = conditions([prompts[i] for i in rows], [heard[i] for i in rows])
        clean = {name: value[rows] for name, value in given.items()}
        one = sampler(model, task, Guidance(Form.NONE), clean, texts)  # scales would multiply what is rounded
        return one.velocity({name: value[rows] for name, value in x.items() if name not in given}, SIGMAS)

    together = velocity([0, 1, 2])
    for i in range(3):
        assert_equal(velocity([i]), {name: value[i : i + 1] for name, value in together.items()})


@pytest.mark.parametrize(("task", "clean"), [(Task.A2V, "audio"), (Task.V2A, "video")])
def test_a_clean_stream_reads_its_texts_over_time_and_is_still_run_once(model, task, clean, monkeypatch):
    runs, original = [], model.context
    monkeypatch.setattr(model, "context", lambda name, given: runs.append(given.text) or original(name, given))
    given, prompts = {clean: latents("y")[clean]}, [TimedPrompts((0.0, 0.4), ("a bell", "a drum"))] * 2
    constant = ["wind"] * 2
    texts = conditions(*((prompts, constant) if clean == "video" else (constant, prompts)))
    one = sampler(model, task, Guidance(Form.TEXT, (3.0, 3.0)), given, texts)
    noisy = {name: value for name, value in latents().items() if name != clean}
    with torch.no_grad():
        first, again = one.velocity(noisy, SIGMAS), one.velocity(noisy, SIGMAS)
    assert [type(text) for text in runs] == [torch.Tensor, TimedText]
    other, _ = guided(model, task, Form.TEXT, (3.0, 3.0), given=given, texts=conditions(constant))
    for name, value in first.items():
        assert torch.equal(value, again[name]) and not torch.allclose(value, other[name], atol=1e-4)


@torch.no_grad()
def test_a_clean_first_frame_has_sigma_zero_and_is_put_back(model):
    first = noise("first", 2, 4, 1, 4, 4)
    seen = []
    hook = model.register_forward_pre_hook(lambda _, args: seen.append(args[1].sigma))
    one = sampler(model, Task.T2AV, Guidance(Form.DUAL), clean={"video": with_first(first, None, 4)})
    x = latents()
    one.restore_clean(x)
    assert torch.equal(x["video"][:, :, :1], first) and torch.equal(x["video"][:, :, 1:], latents()["video"][:, :, 1:])
    one.velocity(x, SIGMAS)
    hook.remove()
    for sigma, row in itertools.product(seen, range(2)):
        assert sigma[row].tolist() == pytest.approx([0, 0.7, 0.7, 0.7])


@torch.no_grad()
def test_clean_spans_of_both_streams_have_sigma_zero_and_are_put_back(model):
    masks = {"video": torch.tensor([0, 1, 1, 0]).bool(), "audio": torch.arange(AUDIO[0]) < 9}
    clean = {name: Clean(latents("c")[name], mask) for name, mask in masks.items()}
    seen = []
    hook = model.register_forward_pre_hook(lambda _, args: seen.append(args[1:3]))
    one = sampler(model, Task.T2AV, Guidance(Form.DUAL), clean=clean)
    x = latents()
    one.restore_clean(x)
    one.velocity(x, SIGMAS)
    hook.remove()
    for name, axis in (("video", 2), ("audio", 1)):
        rows = [(value.movedim(axis, 0)) for value in (x[name], clean[name].latents, latents()[name])]
        assert torch.equal(rows[0][masks[name]], rows[1][masks[name]])
        assert torch.equal(rows[0][~masks[name]], rows[2][~masks[name]])
    told = [given for pair in seen for given in pair if given is not None]
    assert len(told) == 6  # three states of both streams
    for given in told:
        name = "video" if given.latents.ndim == 5 else "audio"
        expected = torch.where(masks[name], 0.0, torch.tensor(SIGMAS[name])).expand(2, -1)
        assert torch.equal(given.sigma, expected)


@torch.no_grad()
def test_a_given_part_is_there_in_every_state_and_weights_of_one_are_one_evaluation():
    model = transformer(parts=["speech", "effects"])
    part = GivenPart(noise("part", 2, *AUDIO), torch.tensor([1, 1]))
    seen = []
    hook = model.register_forward_pre_hook(lambda _, args: seen.append(args[2]))
    guidance = Guidance(Form.DUAL, (3.0, 3.0), (2.0, 2.0))
    out = sampler(model, Task.PART, guidance, part=part).velocity(latents(), SIGMAS)
    hook.remove()
    assert len(seen) == 3 and all(torch.equal(given.part.latents, part.latents) for given in seen)
    without = sampler(model, Task.T2AV, guidance).velocity(latents(), SIGMAS)
    assert not torch.allclose(out["audio"], without["audio"], atol=1e-3)
    assert not torch.allclose(out["video"], without["video"], atol=1e-4)


def test_clean_latents_may_differ_from_sample_to_sample():
    """As in the velocities of a teacher: each row is what it is with its own mask for all."""
    made = latents()
    masks = {"video": torch.arange(4) < torch.tensor([[1], [3]]), "audio": torch.arange(21) >= torch.tensor([[9], [2]])}
    for name, mask in masks.items():
        restored = Clean(latents("y")[name], mask).restored(made[name])
        for row in range(2):
            alone = Clean(latents("y")[name], mask[row]).restored(made[name])
            assert torch.equal(restored[row], alone[row]) and not torch.equal(restored[row], made[name][row])


def without_layer(model, layer: int):
    """The same model with one block less."""
    smaller = copy.deepcopy(model)
    del smaller.blocks[layer]
    return smaller


@torch.no_grad()
@pytest.mark.parametrize("layer", [0, 1])
def test_a_layer_is_skipped_in_the_evaluation_without_the_text(model, layer):
    """Ovi's guidance: v(0c,m) of a model without the layer + w [v(c,m) − v(0c,m)]; the cross-modal attention stays."""
    text, empty = conditions().texts["video"], conditions().negative
    full = plain(model, Task.T2AV.route, text)
    weaker = plain(without_layer(model, layer), Task.T2AV.route, empty)
    expected = {name: weaker[name] + 4 * (full[name] - weaker[name]) for name in SIGMAS}
    skipping = Guidance(Form.TEXT, (4.0, 4.0), skip_layers=(layer,))
    with counted(model) as routes:
        found = sampler(model, Task.T2AV, skipping).velocity(latents(), SIGMAS)
    assert len(routes) == 2 and not torch.allclose(weaker["video"], plain(model, Task.T2AV.route, empty)["video"])
    for name in SIGMAS:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_given_stream_skips_the_layer_too(model):
    """a2v: the clean audio, run once per text, leaves the layer out where the evaluation does."""
    text, empty, given = conditions().texts["video"], conditions().negative, latents()["audio"]
    video, clean = torch.full((2,), SIGMAS["video"]), torch.zeros(2)

    def evaluated(one, words):
        sound = one.context("audio", StreamInput(given, clean, words, AUDIO_CLOCK))
        return one(Task.A2V.route, StreamInput(latents()["video"], video, words, VIDEO_CLOCK), sound)[0]

    full, weaker = evaluated(model, text), evaluated(without_layer(model, 1), empty)
    how = Guidance(Form.TEXT, (4.0, 4.0), skip_layers=(1,))
    found = sampler(model, Task.A2V, how, {"audio": given}).velocity({"video": latents()["video"]}, SIGMAS)["video"]
    torch.testing.assert_close(found, weaker + 4 * (full - weaker), rtol=1e-5, atol=1e-5)
    with pytest.raises(UserError, match="skips layer 2; this model has layers 0 to 1"):
        sampler(model, Task.T2AV, Guidance(skip_layers=(2,)))
