"""A sampling run's parts are the pipeline's own calls: they make up the whole, and every task can be measured."""

from __future__ import annotations

import pytest
import torch
from small import STREAM, pipeline, transformer

from ccl.analysis import sample_benchmark as sample
from ccl.analysis.benchmark_options import Sample
from shared.utils.errors import UserError

TINY = {"duration": 0.3, "steps": 2, "repeats": 2, "guidance": "none"}


@pytest.mark.parametrize("task", ["t2av", "a2v", "v2a", "t2a"])
def test_the_parts_make_the_whole(task):
    found, table = sample.sample_benchmark(Sample(task=task, **TINY), pipeline(transformer()))
    seconds = {name: spread["median"] for name, spread in found["seconds"].items()}
    assert 0.7 < sum(seconds[part] for part in sample.PARTS) / seconds["whole"] < 1.3 and min(seconds.values()) > 0
    assert seconds["one step"] == pytest.approx(seconds["denoise"] / 2) and found["peak_bytes"] > 10_000
    assert f"puppets: {task}, 1 clips of 0.3 s, 2 steps, guidance none" in table


def test_each_part_is_timed_where_it_runs(tmp_path, monkeypatch):
    pipe, clock = pipeline(transformer()), [0.0]
    monkeypatch.setattr(sample.time, "perf_counter", lambda: clock[0])

    def slow(owner, name, seconds):
        original = getattr(owner, name)

        def call(*arguments, **options):
            clock[0] += seconds
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, call, raising=False)

    slow(type(pipe.text_encoder), "encode", 1.0)
    slow(type(pipe.transformer), "forward", 10.0)
    slow(type(pipe.video_codec), "decode", 100.0)
    slow(sample, "write_video", 1000.0)
    options = Sample(**TINY)
    taken = sample.timed_sample(pipe, sample._arguments(options, pipe), tmp_path / "clip.mp4")
    texts = 3  # for the video, for the sound, and the negative one
    assert taken == {"encode": texts, "denoise": 20.0, "decode": 100.0, "mux": 1000.0}
    assert (tmp_path / "clip.mp4").stat().st_size > 0 and "_solve" not in vars(pipe)


def test_a_model_of_any_size_has_codecs_that_fit(tmp_path):
    stream = "{in_channels: 6, text_dim: 8, num_attention_heads: 2, attention_head_dim: 12, ffn_dim: 96, num_layers: 1}"
    file = tmp_path / "own.yaml"
    file.write_text(f"video: {stream}\naudio: {stream.replace('6', '7')}\ncca_heads: 1\ncca_head_dim: 12\n")
    found, table = sample.sample_benchmark(Sample(model=str(file), **TINY), pipeline(transformer()))
    assert found["seconds"]["whole"]["median"] > 0 and table.startswith(str(file))
    made = sample.random_pipeline(pipeline(transformer()), sample.model_config(str(file)), torch.float32)
    assert (made.video_codec.latent_channels, made.audio_codec.latent_channels) == (6, 7)
    file.write_text(file.read_text().replace("text_dim: 8", "text_dim: 9", 1))
    with pytest.raises(sample.UserError, match="text_dim 9 and 8"):
        sample.random_pipeline(pipeline(transformer()), sample.model_config(str(file)), torch.float32)


def test_a_step_cache_is_measured_beside_it(monkeypatch):
    monkeypatch.setitem(STREAM, "num_layers", 2)
    pipe = pipeline(transformer())
    found, table = sample.sample_benchmark(Sample(step_cache=(1e6, 0), **TINY | {"steps": 4}), pipe)
    assert found["step_cache"]["left_out"] == {"video": 0.75, "audio": 0.0}
    assert found["step_cache"]["faster"]["median"] > 0 and not pipe.transformer.is_cache_enabled
    assert "left out: 75% of the video's evaluations, 0% of the audio's evaluations" in table


def test_few_steps_are_measured_beside_it():
    """In its own number of steps, without guidance; a model that is not distilled has none."""
    few = pipeline(transformer(distilled={"steps": 3, "shifts": [1, 1], "guidance": {"t2av": {}}}))
    evaluations: list[int] = []
    run = few.transformer.forward
    few.transformer.forward = lambda *given, **more: evaluations.append(1) or run(*given, **more)
    found, table = sample.sample_benchmark(Sample(few="few", **TINY | {"steps": 30}), pipeline(transformer()), few)
    assert len(evaluations) == 3 * (1 + TINY["repeats"])
    assert found["few"]["faster"]["median"] > 1 and set(found["few"]["seconds"]) == set(sample.PARTS)
    assert "by few steps, 3, denoising is" in table
    with pytest.raises(UserError, match="--few: this folder is not distilled"):
        sample.sample_benchmark(Sample(few="few", **TINY), pipeline(transformer()), pipeline(transformer()))
