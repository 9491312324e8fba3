"""Whole sampling runs measured: what the text, the steps, the decoding and the writing take, and the memory.

`python scripts/benchmark.py sample` is its command line.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ccl.analysis.benchmark_options import Sample, model_config
from ccl.analysis.step_benchmark import compile_all, random_model
from ccl.analysis.timing import MIB, Spread, in_turns, paired_ratio, peak_bytes, wait
from ccl.guidance import Form, Guidance
from ccl.pipeline import CCLOutput, CCLPipeline
from shared.codecs import LinearAudioCodec, LinearVideoCodec
from shared.data.media_write import write_audio, write_video
from shared.nn.attention import use_backend
from shared.nn.cache_context import StreamCacheConfig
from shared.nn.few_steps import FewSteps
from shared.utils.errors import UserError
from shared.utils.rng import generator

PROMPT = "Scene description: a big yellow bell rings twice under a warm bright light."
PARTS = ("encode", "denoise", "decode", "mux")
FEW = 2  # steps of the run whose memory is looked at: further ones take no more


def sample_benchmark(
    options: Sample, pipeline: CCLPipeline, few: CCLPipeline | None = None
) -> tuple[dict[str, Any], str]:
    """Measure what `options` ask for with the checkpoint's `pipeline`: numbers, and the table; in turns with it `few`,
    which is distilled, in its own number of steps. UserError for a size that does not fit, or a `few` that is not
    distilled."""
    if options.model is not None:
        pipeline = random_pipeline(pipeline, model_config(options.model), getattr(torch, options.dtype))
    device, taken = str(pipeline._execution_device), dict[str, list[dict[str, float]]]()
    if options.compile:
        compile_all(pipeline.transformer)
    arguments = _arguments(options, pipeline)
    with use_backend(options.attention, "--attention"), tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / ("clip.wav" if options.task == "t2a" else "clip.mp4")
        runs = {"sample": lambda: timed_sample(pipeline, arguments, file)}
        if options.step_cache is not None:
            config = StreamCacheConfig(*options.step_cache)
            runs["cached"] = lambda: sample_cached(pipeline, config, arguments, file)
        if few is not None:
            fewer = arguments | {"num_inference_steps": own_steps(few), "guidance": None}
            runs["few"] = lambda: timed_sample(few, fewer, file)
        for one in (pipeline, few):
            if one is not None:
                one.set_progress_bar_config(disable=True)
        forms = {name: (lambda name=name: taken.setdefault(name, []).append(runs[name]())) for name in runs}
        whole = in_turns(forms, options.repeats, device)["sample"]
        peak = peak_bytes(lambda: pipeline(**arguments | {"num_inference_steps": min(FEW, options.steps)}), device)
    timed = {name: seconds[1:] for name, seconds in taken.items()}  # the first round is not counted
    rows = {name: Spread.of([one[name] for one in timed["sample"]]) for name in PARTS}
    rows |= {
        "whole": Spread.of(whole),
        "one step": Spread.of([one["denoise"] / options.steps for one in timed["sample"]]),
    }
    results = {"seconds": {name: spread._asdict() for name, spread in rows.items()}, "peak_bytes": peak}
    what = options.model or options.checkpoint.name
    lines = [
        f"{what}: {options.task}, {options.batch} clips of {options.duration:g} s, {options.steps} steps, guidance "
        f"{options.guidance}, {options.dtype}, {device}, {torch.get_num_threads()} threads", "",
        *(f"{name:12s}{spread.text()} s" for name, spread in rows.items()),
        f"peak memory beyond weights: {peak / MIB:.1f} MiB",
    ]  # fmt: skip
    if "cached" in timed:
        faster, shares = _faster(timed, "cached"), _medians(timed["cached"], ("video", "audio"))
        results["step_cache"] = {"faster": faster._asdict(), "left_out": shares}
        told = ", ".join(f"{share:.0%} of the {name}'s evaluations" for name, share in shares.items())
        lines.append(f"with a step cache denoising is {faster.text()} times as fast; left out: {told}")
    if few is not None:
        faster, seconds = _faster(timed, "few"), _medians(timed["few"], PARTS)
        results["few"] = {"faster": faster._asdict(), "seconds": seconds}
        told = ", ".join(f"{name} {value:.3g} s" for name, value in seconds.items())
        lines.append(f"by few steps, {own_steps(few)}, denoising is {faster.text()} times as fast; {told}")
    return results, "\n".join(lines)


def own_steps(pipeline: CCLPipeline) -> int:
    """Find the number of steps that a distilled model takes by default. UserError for one that is not distilled."""
    few = FewSteps.of(pipeline.transformer)
    if few is None:
        raise UserError("--few: this folder is not distilled for few steps; give one that is, as assets/puppets_few")
    return few.steps


def _faster(timed: dict[str, list[dict[str, float]]], name: str) -> Spread:
    """Compare the denoising of each round with that of `name` in the same round."""
    return paired_ratio(*([one["denoise"] for one in timed[of]] for of in ("sample", name)))


def _medians(runs: list[dict[str, float]], names: Sequence[str]) -> dict[str, float]:
    return {name: Spread.of([one[name] for one in runs]).median for name in names}


def random_pipeline(pipeline: CCLPipeline, config: dict[str, Any], dtype: torch.dtype) -> CCLPipeline:
    """Make a pipeline of a model of this size, with linear codecs that fit; schedulers and sizes are `pipeline`'s."""
    video, audio = config["video"], config["audio"]
    if video["text_dim"] != audio["text_dim"]:
        raise UserError(
            f"--model: text_dim {video['text_dim']} and {audio['text_dim']}; sampling needs one width for both"
        )
    device = str(pipeline._execution_device)
    made = CCLPipeline(
        random_model(config, dtype, device),
        LinearVideoCodec(latent_channels=video["in_channels"]).to(device),
        LinearAudioCodec(latent_channels=audio["in_channels"]).to(device),
        type(pipeline.text_encoder)(dim=video["text_dim"]),
        pipeline.scheduler, pipeline.audio_scheduler,
        **{name: pipeline.config[name] for name in ("fps", "height", "width")},
    )  # fmt: skip
    return made


def _arguments(options: Sample, pipeline: CCLPipeline) -> dict[str, Any]:
    """Arguments of the pipeline; the given stream is noise."""
    height, width = options.height or pipeline.config.height, options.width or pipeline.config.width
    arguments: dict[str, Any] = {
        "prompt": [PROMPT] * options.batch, "task": options.task, "duration": options.duration, "height": height,
        "width": width, "num_inference_steps": options.steps, "guidance": Guidance(Form(options.guidance)),
    }  # fmt: skip
    draw = generator(0, "benchmark")
    if options.task == "a2v":
        samples = round(options.duration * pipeline.audio_codec.sample_rate)
        arguments["audio"] = 0.1 * torch.randn(1, 1, samples, generator=draw)
    if options.task == "v2a":
        frames = max(1, round(options.duration * pipeline.config.fps))
        arguments["video"] = torch.rand(1, 3, frames, height, width, generator=draw) * 2 - 1
    return arguments


def timed_sample(pipeline: CCLPipeline, arguments: dict[str, Any], file: Path) -> dict[str, float]:
    """Sample, write every clip to `file`, and return the seconds of `PARTS`. What is given is encoded with the text;
    it is not written again."""
    device = pipeline._execution_device
    started = time.perf_counter()
    with timed(pipeline, "_solve", device) as solve, timed(pipeline, "_decode", device) as decode:
        output = pipeline(**arguments)
    wait(device)
    sampled = time.perf_counter()
    for index in range(len(arguments["prompt"])):
        _write(file, output, index)
    denoised, decoded = sum(solve), sum(decode)
    seconds = sampled - started - denoised - decoded, denoised, decoded, time.perf_counter() - sampled
    return dict(zip(PARTS, seconds, strict=True))


def sample_cached(
    pipeline: CCLPipeline, config: StreamCacheConfig, arguments: dict[str, Any], file: Path
) -> dict[str, float]:
    """`timed_sample` with a step cache, and the share of each stream's evaluations that it leaves out."""
    pipeline.transformer.enable_cache(config)
    seconds = timed_sample(pipeline, arguments, file)
    counted = pipeline.transformer.cache_evaluations
    pipeline.transformer.disable_cache()
    return seconds | {name: counted.left_out[name] / max(1, count) for name, count in counted.all.items()}


def _write(file: Path, output: CCLOutput, index: int) -> None:
    sound = None if output.audio is None else output.audio[index][None]
    if output.video is not None:
        rate = None if sound is None else output.sample_rate
        write_video(file, output.video[index], output.fps, sound, rate)
    elif sound is not None:
        write_audio(file.with_suffix(".wav"), sound, output.sample_rate)


@contextmanager
def timed(owner: Any, method: str, device: torch.device) -> Iterator[list[float]]:
    """Note the seconds of each call of a method of `owner` while this lasts."""
    seconds: list[float] = []
    original = getattr(owner, method)

    def call(*arguments: Any, **options: Any) -> Any:
        wait(device)
        started = time.perf_counter()
        result = original(*arguments, **options)
        wait(device)
        seconds.append(time.perf_counter() - started)
        return result

    setattr(owner, method, call)
    try:
        yield seconds
    finally:
        delattr(owner, method)
