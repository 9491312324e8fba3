"""Micro-batches: a pure function of (step, micro-step, rank), with texts and tasks as the configuration says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
import torch

from ccl.routing import Task
from ccl.training.batches import JointBatches
from mtv.curriculum import BackboneConfig
from shared.codecs import Codecs, LinearAudioCodec, LinearVideoCodec
from shared.data.latents import Latents
from shared.encoders import HashedWords
from shared.utils.config import TrainConfig

ENCODER = HashedWords(dim=12, max_length=4)
CODECS = Codecs(LinearVideoCodec(latent_channels=4), LinearAudioCodec(latent_channels=5))


class Store:
    """Eight clips of 13 frames and two of 29, without files."""

    def __init__(self) -> None:
        self.ahead: list[str] = []

    def read_ahead(self, names: Iterable[str]) -> None:
        self.ahead = list(names)

    def shapes(self) -> dict[str, tuple[int, int]]:
        return {f"clip{i}": (4, 21) if i < 8 else (8, 46) for i in range(10)}

    def get(self, name: str) -> Latents:
        frames, tokens = self.shapes()[name]
        count = 4 * frames - 3
        generator = torch.Generator().manual_seed(int(name[4:]))
        return Latents(
            id=name,
            video=torch.randn(4, frames, 4, 4, generator=generator),
            audio=torch.randn(tokens, 5, generator=generator),
            frames=count,
            samples=count * 1000,
            has_video=True,
            has_audio=True,
            caption=f"seen {name}",
            audio_caption=f"heard {name}",
        )


def batches(world: int = 1, **changes) -> JointBatches:
    model = changes.pop("model", {})
    config = TrainConfig(
        output="none", model=model, data={"manifest": "none"}, train={"steps": 10, "micro_batch": 4}, **changes
    )
    return JointBatches(config, Store(), CODECS, ENCODER, 4, world)


def encoded(texts: list[str]) -> torch.Tensor:
    return ENCODER.encode(texts)


def test_a_batch_is_a_pure_function_of_step_micro_and_rank():
    one, two = batches()(5, 0, 0), batches()(5, 0, 0)
    assert (one.ids, one.tasks, one.step) == (two.ids, two.tasks, 5)
    for name in ("video", "audio", "text", "audio_text", "clean_frames"):
        assert torch.equal(getattr(one, name), getattr(two, name)), name
    assert any(batches()(step, 0, 0).ids != one.ids for step in range(6, 10))


def test_the_clips_of_four_steps_are_read_ahead():
    made = batches()
    made(5, 0, 0)
    assert made.latents.ahead == [name for step in range(5, 9) for name in made.plan.at(step, 0, 0)]


def test_clips_of_a_batch_share_shapes_and_clocks():
    made = batches()
    for step in range(8):
        batch = made(step, 0, 0)
        frames, tokens = Store().shapes()[batch.ids[0]]
        assert batch.video.shape == (4, 4, frames, 4, 4) and batch.audio.shape == (4, tokens, 5)
        assert (len(batch.video_clock), len(batch.audio_clock)) == (frames, tokens)
        assert batch.clean_frames.shape == (4, frames)
        assert torch.equal(batch.video[1], Store().get(batch.ids[1]).video)


def test_every_rank_runs_the_same_tasks_on_its_own_clips():
    made = batches(world=2)
    for step in range(6):
        one, two = made(step, 0, 0), made(step, 0, 1)
        assert one.tasks == two.tasks and one.video.shape == two.video.shape
        assert len(one.ids) == 4 and (one.video.shape[2] == 8 or not set(one.ids) & set(two.ids))


class Shots(Store):
    """Of the first four clips some have texts over time, cut at different times."""

    def get(self, name: str) -> Latents:
        shots = {
            "clip0": {"prompts": [(0, "a"), (0.3, "b")], "audio_prompts": [(0, "c"), (0.5, "d")]},
            "clip1": {"prompts": [(0, "b"), (0.2, "c"), (0.5, "a")]},
            "clip2": {"prompts": [(0, "a"), (9, "b")]},
        }
        return replace(super().get(name), **shots.get(name, {}))


def with_shots(**changes) -> JointBatches:
    made = batches(text_dropout=0.0, **changes)
    made.latents, made.tracks = Shots(), lambda step, ids: None
    return made


def names_of(text, sample: int) -> list[str]:
    """Which text each latent of a sample reads."""
    known = [*"abcd", "seen clip3", "heard clip1", "heard clip2", "heard clip3", ""]
    names = [next(name for name in known if torch.equal(encoded([name])[0], one)) for one in text.texts]
    return [names[row] for row in text.weights[sample].argmax(0).tolist()]


def test_each_latent_reads_the_text_of_its_time():
    batch = with_shots(audio_caption_rate=1.0).build([f"clip{i}" for i in range(4)], ["t2av"] * 4, 0)
    video, audio = batch.video_clock.centres, batch.audio_clock.centres
    assert names_of(batch.text, 0) == ["b" if t >= 0.3 else "a" for t in video.tolist()]
    assert names_of(batch.text, 1) == ["b" if t < 0.2 else "c" if t < 0.5 else "a" for t in video.tolist()]
    assert set(names_of(batch.text, 2)) == {"a"} and set(names_of(batch.text, 3)) == {"seen clip3"}
    assert names_of(batch.audio_text, 0) == ["d" if t >= 0.5 else "c" for t in audio.tolist()]
    assert [set(names_of(batch.audio_text, i)) for i in (1, 3)] == [{"heard clip1"}, {"heard clip3"}]
    same = with_shots(audio_caption_rate=0.0).build(["clip0", "clip1"], ["t2av"] * 2, 0)
    assert names_of(same.audio_text, 0) == ["b" if t >= 0.3 else "a" for t in audio.tolist()]


def test_all_texts_of_a_clip_are_dropped_together():
    made = with_shots()
    made.config = made.config.model_copy(update={"text_dropout": 0.5})
    dropped = [made.build(["clip0"], ["t2av"], step) for step in range(20)]
    without = [torch.equal(batch.text, encoded([""])) for batch in dropped if isinstance(batch.text, torch.Tensor)]
    assert all(without) and 4 < len(without) < 16
    for batch in dropped:
        assert isinstance(batch.text, torch.Tensor) == isinstance(batch.audio_text, torch.Tensor)


def test_a_batch_is_taken_and_moved_with_its_texts():
    batch = with_shots().build([f"clip{i}" for i in range(4)], ["t2av"] * 4, 0)
    part = batch.take([3, 1]).to("cpu")
    assert names_of(part.text, 1) == names_of(batch.text, 1) and names_of(part.text, 0) == ["seen clip3"] * 4
    assert torch.equal(batch.take([2]).text, encoded(["a"]))


def test_a_model_that_cannot_route_trains_by_the_caption():
    made = with_shots()
    made.config = BackboneConfig.model_validate(made.config.model_dump() | {"backbone": "folder"})
    batch = made.build(["clip0", "clip1"], ["mtv"] * 2, 0)
    assert torch.equal(batch.text, encoded(["seen clip0", "seen clip1"]))


def test_both_streams_lose_their_text_together():
    batch = batches(text_dropout=1.0)(0, 0, 0)
    assert torch.equal(batch.text, encoded([""] * 4)) and torch.equal(batch.audio_text, batch.text)


def test_text_dropout_can_be_set_per_task():
    made = batches(text_dropout=0.0, text_dropout_per_task={"a2v": 1.0}, audio_caption_rate=0.0)
    batch = made.build(["clip0", "clip1"], ["a2v", "t2av"], 0)
    assert torch.equal(batch.text, encoded(["", "seen clip1"]))


@pytest.mark.parametrize(("rate", "word"), [(0.0, "seen"), (1.0, "heard")])
def test_the_sound_reads_its_own_caption_as_often_as_asked(rate, word):
    batch = batches(text_dropout=0.0, audio_caption_rate=rate).build(["clip2"], ["t2av"], 0)
    assert torch.equal(batch.text, encoded(["seen clip2"]))
    assert torch.equal(batch.audio_text, encoded([f"{word} clip2"]))


def test_what_is_random_of_a_clip_does_not_depend_on_its_company():
    made = batches(text_dropout=0.5, clean_frames=0.5)
    names = [f"clip{i}" for i in range(8)]
    together, alone = made.build(names, ["t2av"] * 8, 3), [made.build([name], ["t2av"], 3) for name in names]
    for name in ("text", "audio_text", "clean_frames"):
        assert torch.equal(getattr(together, name), torch.cat([getattr(one, name) for one in alone])), name


class WithKeyframes(Store):
    def get(self, name: str) -> Latents:
        latents = super().get(name)
        return replace(latents, keyframe_latents=latents.video + 100)


def test_keyframes_are_clean_stills_where_the_video_is_made():
    made = batches(keyframes=1.0, clean_frames=0.0)
    made.latents = WithKeyframes()
    for task in ("t2av", "t2v", "a2v", "mtv"):
        batch = made.build([f"clip{i}" for i in range(4)], [task] * 4, 0)
        assert batch.clean_frames.any(1).all() and not batch.clean_frames.all(1).any()
        still = (batch.video > 50).flatten(3).all(3).all(1)
        assert torch.equal(still, batch.clean_frames)
    given = made.build([f"clip{i}" for i in range(4)], ["v2a"] * 4, 0)
    assert not given.clean_frames.any() and given.video.max() < 50


def test_a_clip_that_begins_clean_has_no_keyframes():
    made = batches(keyframes=1.0, clean_frames=1.0)
    made.latents = WithKeyframes()
    batch = made.build([f"clip{i}" for i in range(4)], ["t2v"] * 4, 0)
    assert batch.clean_frames[:, 0].all() and batch.video.max() < 50


def test_tracks_are_asked_for_where_mtv_is_among_the_tasks():
    asked = []
    made = batches()
    made.tracks = lambda step, ids: asked.append((step, ids))
    made.build(["clip0", "clip1"], ["t2v", "a2v"], 3)
    assert asked == []
    made.build(["clip0", "clip1"], ["t2v", "mtv"], 3)
    assert asked == [(3, ["clip0", "clip1"])]


class Speakers(Store):
    """Captions of MTV's template, which say who speaks."""

    def get(self, name: str) -> Latents:
        caption = "One person conversation. Person1: a man. Person1 is speaking. Scene description: a garden."
        return replace(super().get(name), caption=caption)


def test_on_mtv_the_caption_does_not_always_say_who_speaks():
    made = batches(tracks={"drop_speaker_prob": 0.5}, text_dropout=0.0, audio_caption_rate=0.0)
    made.latents, made.text_encoder = Speakers(), HashedWords(dim=12, max_length=24)
    made.tracks = lambda step, ids: None
    without = "One person conversation. Person1: a man. Scene description: a garden."
    ids = [f"clip{i}" for i in range(8)]
    for task, some in (("mtv", True), ("t2v", False)):
        texts = torch.cat([made.build(ids, [task] * 8, step).text for step in range(10)])
        hidden = (texts == made.text_encoder.encode([without])).flatten(1).all(1)
        assert (20 < int(hidden.sum()) < 60) == some and (some or not hidden.any())


def test_on_mtv_every_text_of_a_clip_says_who_speaks_or_none_does():
    said = "One person conversation. Person1: a {}. Person1 is speaking. Scene description: a garden."
    made = with_shots(tracks={"drop_speaker_prob": 0.5, "drop_from_caption": {" garden": 0.5}})
    shots = [(0, said.format("man")), (0.3, said.format("woman"))]
    clip = replace(made.latents.get("clip0"), prompts=shots)
    seen = set()
    for step in range(40):
        text, sound = made._texts(clip, Task.MTV, step)
        assert text == sound and text.times == (0.0, 0.3)
        for part in (" Person1 is speaking.", " garden"):
            assert len({part in one for one in text.texts}) == 1
        seen.add(text.texts)
    assert len(seen) == 4


def test_on_mtv_what_a_pattern_finds_is_left_out_at_its_rate():
    made = batches(tracks={"drop_speaker_prob": 0.0, "drop_from_caption": {r" clip\d": 0.5}}, text_dropout=0.0)
    made.tracks = lambda step, ids: None
    ids = [f"clip{i}" for i in range(8)]
    for task, some in (("mtv", True), ("t2v", False)):
        texts = torch.cat([made.build(ids, [task] * 8, step).text for step in range(10)])
        left_out = (texts == encoded(["seen"])).flatten(1).all(1)
        assert (20 < int(left_out.sum()) < 60) if some else not left_out.any()


class OwnRates(Store):
    """Clips at 24 frames a second, where the configuration has 16."""

    def get(self, name: str) -> Latents:
        return replace(super().get(name), fps=24)


def test_the_clock_is_that_of_the_clips_own_rate():
    made = batches()
    plain = made.build(["clip0"], ["t2av"], 0).video_clock
    made.latents = OwnRates()
    own = made.build(["clip0"], ["t2av"], 0).video_clock
    assert own.ends[-1] == pytest.approx(13 / 24) and plain.ends[-1] == pytest.approx(13 / 16)


def test_a_token_budget_fills_batches_and_losses_are_divided_by_the_steps_clips():
    train = {"steps": 10, "micro_batch": None, "token_budget": 80, "gradient_accumulation_steps": 2}
    config = TrainConfig(output="none", model={}, data={"manifest": "none"}, train=train)
    made = JointBatches(config, Store(), CODECS, ENCODER, 4, 1)
    counts = set()
    for step in range(10):
        one, two = made(step, 0, 0), made(step, 1, 0)
        assert one.clips == two.clips == one.divisor == (len(one.ids) + len(two.ids)) / 2
        counts |= {(one.video.shape[2], len(one.ids)), (two.video.shape[2], len(two.ids))}
    assert counts == {(4, 80 // (4 * 4 + 21)), (8, 80 // (8 * 4 + 46))}
    with pytest.raises(ValueError, match=r"micro_batch is null: give train\.token_budget"):
        TrainConfig(output="none", model={}, data={"manifest": "none"}, train={"steps": 1, "micro_batch": None})


def test_clean_spans_are_of_streams_that_are_made_and_of_samples_without_clean_frames():
    made = batches(clean_spans=1.0, clean_frames=0.0)
    ids = [f"clip{i}" for i in range(8)]
    seen = [made.build(ids, ["t2av"] * 8, step) for step in range(6)]
    video, audio = (torch.cat([getattr(one, name).any(1) for one in seen]) for name in ("clean_frames", "clean_tokens"))
    assert (video | audio).all() and (video & audio).any() and (video ^ audio).any()
    for task, of_video, of_audio in (("t2v", True, False), ("v2a", False, True), ("mtv", False, False)):
        batch = made.build(ids, [task] * 8, 0)
        assert bool(batch.clean_frames.any()) == of_video and bool(batch.clean_tokens.any()) == of_audio
    prefixes = batches(clean_spans=1.0, clean_frames=1.0).build(ids, ["t2av"] * 8, 0)
    assert not prefixes.clean_tokens.any()
    assert torch.equal(prefixes.clean_frames, batches(clean_frames=1.0).build(ids, ["t2av"] * 8, 0).clean_frames)


def test_without_clean_spans_no_token_is_clean():
    batch = batches()(5, 0, 0)
    assert batch.clean_tokens is None and batch.part is None and batch.part_track is None


class WithParts(Store):
    """Of every other clip the effects are silent."""

    def get(self, name: str) -> Latents:
        latents = super().get(name)
        parts = {"effects": latents.audio + 200, "speech": latents.audio + 100}
        return replace(latents, parts=parts if int(name[4:]) % 2 else {"speech": parts["speech"]})


def test_a_sample_of_task_part_has_a_track_of_its_own_clip_that_sounds():
    made = batches(tasks={"part": 1.0}, **PARTS)
    made.latents = WithParts()
    ids = [f"clip{i}" for i in range(8)]
    drawn = []
    for step in range(12):
        batch = made.build(ids, ["part"] * 6 + ["t2av"] * 2, step)
        offset = (batch.part[:6] - batch.audio[:6]).mean((1, 2))
        torch.testing.assert_close(offset, torch.where(batch.part_track[:6] == 1, 200.0, 100.0), rtol=0, atol=1e-3)
        assert not batch.part[6:].any() and not batch.part_track[:6:2].any()
        drawn += batch.part_track[1:6:2].tolist()
    assert 5 < sum(drawn) < 31  # of 36: either track, at random
    again = made.build(ids[:1] + ids[3:4], ["part", "part"], 11)
    assert torch.equal(again.part[1], batch.part[3])


PARTS = {"model": {"parts": ["speech", "effects"]}}


def test_a_batch_with_a_part_keeps_its_rows_together():
    made = batches(tasks={"part": 1.0}, **PARTS)
    made.latents = WithParts()
    batch = made.build(["clip1", "clip2"], ["part", "part"], 0)
    taken = batch.take([1]).to("cpu")
    assert torch.equal(taken.part, batch.part[1:]) and torch.equal(taken.part_track, batch.part_track[1:])
