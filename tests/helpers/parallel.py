"""`python parallel.py OUT`: one of two processes of tests/scripts/test_context_parallel.py, as OUT/plan.json says.

Writes OUT/sums.pt, outputs and gradients of a model whose tokens two processes hold, trains, and samples.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import joint
import sample_joint
import sample_mtv
import tiny
import torch
from diffusers import ContextParallelConfig
from safetensors.torch import save_file
from torch import Tensor, distributed

from ccl.routing import Task
from ccl.transformer import StreamInput
from mtv.control import TRACKS, MSTControlNet, TrackFeatures
from shared.nn.clock import LatentClock
from shared.nn.timed_text import TimedText
from shared.utils.config import TrainConfig
from shared.utils.distributed import session
from shared.utils.errors import UserError, run_main

#: Latents that two do not divide; shards of sound go by those of the video. A sound that ends in the first of them.
FRAMES, TOKENS, SHORT = 5, 25, 13
EVEN_HEADS = {**tiny.CONFIG, "audio": {**tiny.CONFIG["audio"], "num_attention_heads": 2}}
CONTROL: dict[str, Any] = {
    "backbone_dim": 48, "backbone_heads": 2, "num_blocks": 2, "token_dim": 8, "tokens": 2, "interaction_blocks": 1,
    "heads": 2, "ffn_dim": 16, "hidden_dim": 8, "tracks": dict.fromkeys(TRACKS, (1, 1, 3)),
}  # fmt: skip
#: By name: what of the model is another than CCL's, and the task.
CASES = {
    **{task.value: ({}, task) for task in Task if task is not Task.PART},
    "index": ({"positions": "index"}, Task.T2AV),
    "dense": ({"partition": False}, Task.T2AV),
    "full": ({"fusion": "full"}, Task.T2AV),
    "appended": ({"fusion": "appended"}, Task.T2AV),
    "context": ({}, Task.A2V),
    "context of video": ({"partition": False}, Task.V2A),
    "short": ({}, Task.T2AV),
}


def inputs(tokens: int = TOKENS) -> tuple[StreamInput, StreamInput]:
    """Video with a noise level per frame and texts over time; audio with one of each."""
    clocks = LatentClock.causal_video(FRAMES, 16.0, 4), LatentClock.at_rate(tokens, 25.0)
    weights = torch.tensor([[[1, 1, 1, 0.5, 0], [0, 0, 0, 0.5, 1]], [[0, 1, 1, 1, 1], [1, 0, 0, 0, 0]]])
    text = TimedText.of(tiny.noise("tv", 2, *tiny.TEXT), weights)
    video, audio = tiny.noise("v", 2, 4, FRAMES, 4, 4), tiny.noise("a", 2, tokens, 5)
    levels = torch.linspace(0.2, 0.9, 2 * FRAMES).view(2, FRAMES)
    return (
        StreamInput(video, levels, text, clocks[0]),
        StreamInput(audio, levels[:, 0], tiny.noise("ta", 2, *tiny.TEXT), clocks[1]),
    )


def evaluate(name: str, parallel: bool) -> dict[str, Tensor]:
    """Outputs and gradients of a case; the gradients of a process that holds a part are of that part."""
    changes, task = CASES[name]
    model, given = tiny.transformer(**EVEN_HEADS, **changes), list(inputs(SHORT if name == "short" else TOKENS))
    if parallel:
        model.enable_parallelism(config=ContextParallelConfig(ulysses_degree=2))
    network, hook = None, None
    if task is Task.MTV:
        torch.manual_seed(1)
        network = MSTControlNet(**CONTROL)
        tiny.randomise(network)
        frames = 1 + 4 * (FRAMES - 1)
        speech, effects, music = (tiny.noise(track, 2, frames, 1, 1, 3) for track in TRACKS)
        hook = network(TrackFeatures(speech[:, None], effects, music), given[0].sigma)
    if name.startswith("context"):
        clean = 1 if task is Task.A2V else 0
        given[clean] = model.context(("video", "audio")[clean], given[clean])
    outputs = model(task.route, *given, video_control=hook)
    loss = sum((out.square().mean() for out in outputs if out is not None), start=torch.zeros(()))
    loss.backward()
    found = {stream: out.detach() for stream, out in zip(("video", "audio"), outputs, strict=True) if out is not None}
    for module in filter(None, (model, network)):
        found |= {key: p.grad for key, p in module.named_parameters() if p.grad is not None}
    return found


def refusals() -> list[str]:
    """What is said of three heads for two processes, a stream shorter than the group, four processes, and of both."""
    said = []
    three, one = tiny.transformer(), tiny.transformer(**EVEN_HEADS)
    one.enable_parallelism(config=ContextParallelConfig(ulysses_degree=2))
    video, audio = inputs()
    short = StreamInput(video.latents[:, :, :1], video.sigma[:, :1], audio.text, LatentClock.at_rate(1, 1.0))
    for refuse in (
        lambda: three.enable_parallelism(config=ContextParallelConfig(ulysses_degree=2)),
        lambda: one(Task.T2V.route, short, None),
        lambda: tiny.transformer(**EVEN_HEADS)._resolve_parallel_config(ContextParallelConfig(ulysses_degree=4)),
        lambda: one.enable_parallelism(config=ContextParallelConfig(ulysses_degree=2)),
    ):
        try:
            refuse()
        except UserError as error:
            said.append(str(error))
    return said


def main() -> None:
    folder = Path(sys.argv[1])
    plan = json.loads((folder / "plan.json").read_text())
    with session() as world:
        sums: dict[str, Any] = {}
        for name in plan["cases"]:
            sums[name] = evaluate(name, parallel=True)
            for key, value in sums[name].items():
                if key not in ("video", "audio"):
                    distributed.all_reduce(value)
        if sums:
            sums["refusals"] = refusals()
        if world.is_main:
            torch.save(sums, folder / "sums.pt")
        for path in map(Path, plan["configs"]):
            exported = joint.train(TrainConfig.load(path), world)
            if world.is_main:
                save_file(exported, path.with_name("weights.safetensors"))
        for words in plan["joint"]:
            sample_joint.main(words)
        for words in plan["mtv"]:
            sample_mtv.main(words)


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_main(main)
