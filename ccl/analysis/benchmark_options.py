"""Options of scripts/benchmark.py: what is measured, and at which size. Nothing here imports torch."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, model_validator

from shared.utils import cli
from shared.utils.cli import Thresholds, option, some_of
from shared.utils.errors import UserError
from shared.utils.ranges import Batch, Count, Depth, Seconds, Seed, Side, Steps, Width, Workers
from shared.utils.text_files import is_file, parse_yaml, read_text

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "configs/model"
DEVICE = "auto (default: a GPU if there is one), cpu, cuda, cuda:1 ..."
NEIGHBOURS = ("wan", "ltx2", "kandinsky6")
TASKS = ("t2av", "a2v", "v2a", "t2v", "t2a")
SIZES = [(31, 484, 157), (61, 900, 314)]  # 5 and 10 s of video at 24 fps, stride 4, with 31.25 audio tokens per second


def three_numbers(what: str, example: str) -> BeforeValidator:
    """Make a validator that takes three whole numbers apart, called `what`. ValueError for any other text."""

    def read(text: Any) -> Any:
        if not isinstance(text, str):
            return text
        parts = text.split(",")
        if len(parts) != 3 or not all(part.isdigit() and int(part) > 0 for part in parts):
            raise ValueError(f"{text!r} is not {what}: three whole numbers above 0, such as {example}")
        return tuple(map(int, parts))

    return BeforeValidator(read)


def model_config(name: str) -> dict[str, Any]:
    """Content of configs/model/NAME.yaml, or of a file; it must say what codecs and text encoder would."""
    named = MODELS / f"{name}.yaml"
    path = named if named.is_file() else Path(name)
    if not is_file(path):
        there = ", ".join(sorted(file.stem for file in MODELS.glob("*.yaml") if "control" not in file.stem))
        raise UserError(f"--model {name}: no such file, and none of the models {there}")
    config = parse_yaml(read_text(path), f"--model {name}: {path}")
    for stream, key in product(("video", "audio"), ("in_channels", "text_dim")):
        if not isinstance(config, dict) or key not in (config.get(stream) or {}):
            raise UserError(f"--model {name}: {path} has no {stream}.{key}, which its codecs say; write it there")
    return config


class Reported(cli.Options):
    """What every command has: a file for its numbers."""

    json_file: Path | None = option(
        None, "the numbers as a .json beside the table", name="json", metavar="FILE", writes="file"
    )


class Cca(Reported):
    """Gathered against dense cross-modal context attention."""

    sizes: list[Annotated[tuple[Count, Count, Count], three_numbers("F,S,A", "31,484,157")]] = option(
        SIZES, "frames, tokens of each, audio tokens (default: 31,484,157 61,900,314)", metavar="F,S,A"
    )
    heads: Depth = option(2, "of the attention")
    head_dim: int = option(48, "width of a head; even, for rotary positions", ge=2, le=4096, multiple_of=2)
    context_tokens: Width = option(16, "LCT")
    backward: bool = option(False, "measure forward and backward together")
    repeats: Steps = option(3, "the fastest of so many runs counts")
    device: str = option("auto", DEVICE)


class Shards(Reported):
    """Samples per second read from latent shards."""

    records: Count = option(10_000, "of at most 64 KB each")
    workers: Workers = option(2, "processes that read, each its own part")
    folder: Path | None = option(None, "where the shards are made and deleted; default: a temporary folder")


class Train(Reported):
    """Whole training steps of a recipe on made-up clips, in one process without a launcher."""

    config: Path = option(
        ROOT / "configs/train/puppets_trial.yaml", "a recipe (default: short runs of the shipped model)"
    )
    overrides: list[str] = option(
        [], "override one key of it; init is assets/puppets (other models: init=null, codecs=assets/puppets)",
        name="set", metavar="KEY=VALUE", repeat=True,
    )  # fmt: skip
    overrides_here: list[str] = option(
        [], "with --against-checkout: the same, for this checkout alone", name="set-here", metavar="KEY=VALUE",
        repeat=True,
    )  # fmt: skip
    task: Literal["t2av", "a2v", "v2a", "t2v", "t2a"] = option("t2av", "of all clips")
    batch: Batch = option(8, "clips of a step")
    seconds: Seconds = option(2.0, "of a clip")
    repeats: Steps = option(10, "steps that are timed, after two that are not; of each checkout")
    against_checkout: Path | None = option(
        None, "a folder with another checkout of this repository: steps of both in turns", metavar="DIR"
    )
    device: str = option("auto", DEVICE)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.overrides_here and self.against_checkout is None:
            raise ValueError("--set-here sets this checkout apart from another; give --against-checkout, or --set")
        there = self.against_checkout
        if there is not None and not (there / "ccl" / "training" / "objective.py").is_file():
            raise ValueError(f"--against-checkout {there}: no checkout of this repository; name its topmost folder")
        return self

    @property
    def settings(self) -> list[str]:
        """Overrides of both checkouts."""
        return [f"init={ROOT / 'assets/puppets'}", f"train.micro_batch={self.batch}", *self.overrides]


class Accelerated(Reported):
    """How the blocks of a model run."""

    attention: str = option("native", "backend of all attention: native, flash, xformers, flex ...")
    compile: bool = option(False, "compile the blocks, in the round that is not counted")
    device: str = option("auto", DEVICE)


class Size(Accelerated):
    """A joint model with random weights, and one clip: what is run is as large as this."""

    model: str | None = option(None, "a name in configs/model/, or a file; in place of the widths")
    width: Width = option(512, "of the video stream")
    audio_width: Width | None = option(None, "of the audio stream (as the video's)")
    head_dim: int = option(64, "width of a head; even, for rotary positions", ge=2, le=4096, multiple_of=2)
    layers: Depth = option(4, "blocks of each stream")
    ffn: Count = option(4, "times a stream's width: inner width of its feed-forward parts")
    cca_width: Width | None = option(
        None, "inner width of the attention between the streams (a quarter of the video's)"
    )
    grid: Annotated[tuple[Count, Count, Count], three_numbers("F,H,W", "9,16,16")] = option(
        (9, 16, 16), "video tokens: latent frames, rows and columns of each (default: 9,16,16)", metavar="F,H,W"
    )
    audio_tokens: Count = option(48, "of the clip")
    text_tokens: Width = option(64, "of a prompt")
    batch: Batch = option(1, "clips at a time")
    dtype: Literal["fp32", "bf16"] = option("fp32", "of the weights, but those that are kept in fp32, and of products")

    @model_validator(mode="after")
    def _whole_heads(self) -> Self:
        for name in ("width", "audio_width", "cca_width"):
            if (value := getattr(self, name)) is not None and value % self.head_dim:
                raise ValueError(f"--{name.replace('_', '-')} {value} is no multiple of --head-dim {self.head_dim}")
        return self

    def config(self) -> dict[str, Any]:
        """Arguments of a `DualStreamTransformer`. UserError for a --model that there is not."""
        if self.model is not None:
            return model_config(self.model)
        head, cca = self.head_dim, self.cca_width or max(1, self.width // self.head_dim // 4) * self.head_dim
        text = {"text_dim": self.width, "num_layers": self.layers, "attention_head_dim": head}
        widths = {"video": self.width, "audio": self.audio_width or self.width}
        streams = {k: text | {"num_attention_heads": w // head, "ffn_dim": self.ffn * w} for k, w in widths.items()}
        streams["video"]["in_channels"], streams["audio"]["in_channels"] = 16, 64
        return {**streams, "cca_heads": cca // head, "cca_head_dim": head}


class Step(Size):
    """One evaluation of the joint model: time, share of the roofline, other models of the same size."""

    tasks: Annotated[tuple[str, ...], BeforeValidator(some_of(TASKS))] = option(
        ("t2av",),
        f"some of {','.join(TASKS)}, in turns; the clean stream of a2v and v2a has run before (default: t2av)",
    )
    backward: bool = option(False, "forward and backward; the clean stream runs in each pass, as in training")
    against: Annotated[tuple[str, ...], BeforeValidator(some_of(NEIGHBOURS))] = option(
        (), f"diffusers' models at equal widths, depth and tokens, in turns with t2av: some of {','.join(NEIGHBOURS)}"
    )
    repeats: Steps = option(15, "rounds that are timed, after one that is not")

    @model_validator(mode="after")
    def _compared(self) -> Self:
        if self.against and "t2av" not in self.tasks:
            raise ValueError("--against compares task t2av; give it among --tasks, or leave that out")
        return self


class Sample(Accelerated):
    """Whole sampling runs by their parts: encode, denoise, decode, mux; and the memory they take."""

    checkpoint: Path = option(ROOT / "assets/puppets", "default: the shipped assets/puppets", metavar="DIR")
    model: str | None = option(
        None,
        "a name in configs/model/, or a file: random weights of this size and codecs that fit, not the checkpoint's",
    )
    task: Literal["t2av", "a2v", "v2a", "t2v", "t2a"] = option("t2av", "what is made; what is given is noise")
    duration: Seconds = option(2.0, "of a clip")
    steps: Steps = option(24, "solver steps")
    guidance: Literal["dual", "joint", "context", "text", "none"] = option("dual", "form of guidance")
    step_cache: Thresholds | None = option(
        None, "in turns with a step cache of these thresholds, as 0.1 (docs/performance.md)", metavar="V[,A]"
    )
    few: Path | None = option(
        None, "in turns with a folder distilled for few steps, in its own number of them", metavar="DIR"
    )
    height: Side | None = option(None, "pixels (the checkpoint's)")
    width: Side | None = option(None, "pixels (the checkpoint's)")
    batch: Batch = option(1, "clips at a time")
    repeats: Steps = option(3, "runs that are timed, after one that is not")
    dtype: Literal["float32", "bfloat16"] = option("float32", "of the model")


class Live(Reported):
    """A live puppet: speech comes as from a microphone; delay, frames a second, lips and memory."""

    checkpoint: Path = option(ROOT / "assets/puppets", "default: the shipped assets/puppets", metavar="DIR")
    speech: Path | None = option(None, "a sound file; default: held-out puppets speak", metavar="FILE")
    seconds: Seconds = option(60.0, "of the sound")
    window: Seconds = option(1.0, "seconds made at a time")
    steps: Steps | None = option(None, "solver steps; default: the checkpoint's")
    seed: Seed = option(0, "of the noise")
    device: str = option("auto", DEVICE)


class Startup(Reported):
    """Seconds from the start of a process until a sampling script has its options, its model, its first step."""

    scripts: Annotated[tuple[str, ...], BeforeValidator(some_of(("sample_joint", "sample_mtv")))] = option(
        ("sample_joint", "sample_mtv"), "in turns (default: sample_joint,sample_mtv)"
    )
    checkpoint: Path = option(ROOT / "assets/puppets", "default: the shipped assets/puppets", metavar="DIR")
    threads: Workers | None = option(None, "OMP_NUM_THREADS of the processes (this one's)")
    repeats: Steps = option(3, "processes of each that are timed, after one that is not")
