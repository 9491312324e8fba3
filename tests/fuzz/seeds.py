"""Whole small files of every kind that commands read, and the commands that read them."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from unittest import mock

OLD = b"what was there before"
WARM = (
    "av", "ccl.pipeline", "shared.checkpoint.loading", "shared.codecs", "shared.encoders", "shared.evaluation.figures",
    "shared.data.doctor", "shared.data.encode", "shared.data.shard_loader", "ccl.training.build", "ccl.training.run",
    "deepspeed",
)  # fmt: skip
SAMPLE = ["--prompt", "a bell rings", "--steps", "1", "--duration", "0.3"]


@dataclass(frozen=True)
class Command:
    """A script's `main` or a function, with its arguments from (folder, damaged file, output folder)."""

    name: str
    argv: Callable[[Path, Path, Path], list[str]]
    reads: Callable[[list[str]], None] | None = None
    may_fail: bool = False  # exit code 1 where a clip fails by name
    writes_input: bool = False

    def run(self, argv: list[str]) -> None:
        """Run it as its script does: one line and exit code 2 for bad input."""
        from shared.utils.errors import run_main

        run_main(lambda: (self.reads or importlib.import_module(self.name).main)(argv))

    def warm(self) -> None:
        """Import what it needs."""
        if self.reads is None:
            importlib.import_module(self.name)
        for module in WARM:
            importlib.import_module(module)


@dataclass(frozen=True)
class Kind:
    """A kind of file: its `folder` among the seeds, the `file` in it that is damaged, and who reads it."""

    name: str
    folder: str
    file: str
    commands: tuple[Command, ...]


def _read_shards(argv: list[str]) -> None:
    from shared.data.shard_loader import ShardedText
    from shared.data.shards import ShardedLatents

    store = ShardedLatents(argv[0])
    for name in list(store.records):
        store.read(name)
    ShardedText(store)


def _train(argv: list[str]) -> None:
    """Training up to its first step: the clips are encoded, the model is built, and OUTPUT is its own."""
    import train_ccl

    from shared.training.trainer import Trainer

    with mock.patch.object(Trainer, "_engine", side_effect=SystemExit(0)):
        train_ccl.main(argv)


def _train_on_shards(folder: Path, file: Path, output: Path) -> list[str]:
    checkpoint = (folder.parent / "checkpoint").resolve()
    overrides = {"data.shards": f"[{folder}]", "data.manifest": "null", "data.duration": 0.5}
    overrides |= {f"components.{name}": checkpoint for name in ("video_codec", "audio_codec", "text_encoder")}
    overrides |= {"model.video.text_dim": 12, "model.audio.text_dim": 12, "output": folder.parent / "run"}
    config = ["--config", str(checkpoint.parent / "config/config.yaml")]
    return [*config, *(word for key, value in overrides.items() for word in ("--set", f"{key}={value}"))]


def _sample(*options: str) -> Callable[[Path, Path, Path], list[str]]:
    """Arguments of a sample with the small checkpoint; FILE and FOLDER stand for the damaged file and its folder."""

    def argv(folder: Path, file: Path, output: Path) -> list[str]:
        own = [option.replace("FILE", str(file)).replace("FOLDER", str(folder)) for option in options]
        model = [] if "--checkpoint" in own else ["--checkpoint", str(folder.parent / "checkpoint")]
        text = SAMPLE[2:] if "--timed-prompts" in own else SAMPLE
        return [*own, *model, *text, "--output", str(output / "a.mp4")]

    return argv


def _encode(folder: Path, file: Path, output: Path) -> list[str]:
    source = file if file.suffix == ".jsonl" else folder
    given = ["--manifest", str(source), "--checkpoint", str(folder.parent / "checkpoint")]
    return [
        *given,
        "--output",
        str(output / "shards"),
        *["--fps", "8", "--size", "32", "32", "--duration", "0.5", "--device", "cpu", "--threads", "1"],
    ]


@cache
def kinds() -> tuple[Kind, ...]:
    """Every kind, in the order in which numbers go round."""
    doctor = Command(
        "check_data",
        lambda folder, file, out: ["--manifest", str(folder), "--report", str(out / "a.html"), "--workers", "1"],
    )
    show = Command("show_clip", lambda folder, file, out: [str(file), "--output", str(out / "a.png"), "--frames", "3"])
    encode = Command("encode", _encode, may_fail=True)
    demix = Command(
        "demix",
        lambda folder, file, out: ["--manifest", str(folder), "--output", str(out / "tracks"), "--workers", "1"],
        may_fail=True,
    )  # fmt: skip
    video = doctor, show, encode, demix, Command("sample_joint", _sample("--video", "FILE"))
    joint = Command("sample_joint", _sample("--checkpoint", "FOLDER"))
    manifest = Command(
        "check_data",
        lambda folder, file, out: ["--manifest", str(file), "--report", str(out / "a.jsonl"), "--workers", "1"],
    )
    shards = Command("read_shards", lambda folder, file, out: [str(folder)], _read_shards)
    config = Command(
        "train_ccl --config",
        lambda folder, file, out: ["--config", str(file), "--set", f"output={folder.parent / 'run'}"],
        _train,
    )
    train = Command("train_ccl data.shards", _train_on_shards, _train)
    return (
        *(Kind(ending, ending, f"a.{ending}", video) for ending in ("mp4", "mkv", "webm")),
        Kind("wav", "wav", "a.wav", (show, Command("sample_joint", _sample("--audio", "FILE")))),
        Kind("png", "png", "a.png", (Command("sample_joint", _sample("--image", "FILE")),)),
        Kind("safetensors: weights", "model", "transformer/diffusion_pytorch_model.safetensors", (joint,)),
        Kind("safetensors: codec", "model", "audio_codec/diffusion_pytorch_model.safetensors", (joint,)),
        Kind("safetensors: lora", "lora", "pytorch_lora_weights.safetensors", (
            Command("sample_joint", _sample("--lora", "FILE")),)),
        Kind("tar", "shards", "00001.tar", (shards,)),
        Kind("json: index", "shards", "index.json", (shards,)),
        Kind("tar: trained on", "encoded", "00000.tar", (train,)),
        Kind("json: trained on", "encoded", "index.json", (train,)),
        Kind("json: config", "model", "transformer/config.json", (joint,)),
        Kind("json: model_index", "model", "model_index.json", (joint,)),
        Kind("json: manifest", "manifest", "manifest.jsonl", (manifest, encode)),
        Kind("yaml", "config", "config.yaml", (config,)),
        Kind("txt: caption", "mp4", "a.txt", (doctor, encode)),
        Kind("txt: prompts", "prompts", "prompts.txt", (Command("sample_joint", _sample("--timed-prompts", "FILE")),)),
    )  # fmt: skip


def prepare(seeds: Path, kind: Kind, case: Path) -> tuple[Path, Path]:
    """Copy the seeds of a kind to `case`: the file to damage, and the folder for output, which holds old files."""
    shutil.copytree(seeds / kind.folder, case / "in")
    (case / "checkpoint").symlink_to(seeds / "model")
    output = case / "out"
    output.mkdir()
    for name in ("a.html", "a.png", "a.mp4", "a.jsonl"):
        (output / name).write_bytes(OLD)
    return case / "in" / kind.file, output


def make_seeds(folder: Path) -> None:
    """Write all of them, a second and 32 x 32 pixels at most."""
    import av
    import numpy as np
    from PIL import Image

    from shared.data.media_write import write_audio, write_video
    from shared.data.shard_benchmark import make_shards

    noise = np.random.default_rng(0)
    frames = np.kron(noise.integers(0, 255, (8, 4, 4, 3)), np.ones((1, 8, 8, 1))).astype(np.uint8)
    sound = (0.3 * noise.standard_normal((1, 16000))).astype(np.float32)
    for ending in ("mp4", "mkv", "webm", "wav", "png", "shards", "manifest", "config", "prompts"):
        (folder / ending).mkdir()
    write_video(folder / "mp4/a.mp4", frames, 8, sound, 16000)
    write_audio(folder / "wav/a.wav", sound, 16000)
    Image.fromarray(frames[0]).save(folder / "png/a.png")
    for ending, codecs in (("mkv", ("libx264", "aac")), ("webm", ("libvpx", "libopus"))):
        with av.open(str(folder / f"{ending}/a.{ending}"), "w") as container:
            video, audio = container.add_stream(codecs[0], rate=8), container.add_stream(codecs[1], rate=48000)
            video.width = video.height = 32
            video.pix_fmt = "yuv420p"
            for picture in frames:
                container.mux(video.encode(av.VideoFrame.from_ndarray(picture)))
            container.mux(video.encode(None))
            wave = av.AudioFrame.from_ndarray(np.repeat(sound, 3, 1), "fltp", "mono")
            wave.sample_rate = 48000
            for frame in (wave, None):
                for part in (
                    av.AudioResampler(audio.format, audio.layout, 48000, 960).resample(frame) if frame else [None]
                ):
                    container.mux(audio.encode(part))
    for ending in ("mp4", "mkv", "webm"):
        (folder / f"{ending}/a.txt").write_text("A bell rings.\n")
    make_shards(folder / "shards", 6, per_shard=2)
    shutil.copy(folder / "mp4/a.mp4", folder / "manifest/a.mp4")
    entries = [{"id": f"clip{i}", "video": "a.mp4", "caption": "A bell.", "start": i / 10} for i in range(3)]
    (folder / "manifest/manifest.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    (folder / "prompts/prompts.txt").write_text("0, A bell rings.\n0.2, It is silent.\n")
    _make_models(folder)
    _make_encoded(folder)


def _make_encoded(folder: Path) -> None:
    from scripts.encode import main

    given = ["--manifest", str(folder / "manifest"), "--checkpoint", str(folder / "model"), "--device", "cpu"]
    sizes = ["--fps", "8", "--size", "32", "32", "--duration", "0.5", "--shard-clips", "2"]
    main([*given, *sizes, "--output", str(folder / "encoded")])


def _make_models(folder: Path) -> None:
    import yaml

    from shared.checkpoint.folder import save_checkpoint
    from shared.checkpoint.lora import add_lora, save_lora
    from tests.helpers.small import pipeline, transformer

    save_checkpoint(pipeline(transformer()), folder / "model", "# card")
    model, lora = transformer(), _Lora()
    add_lora(model, None, lora, 0)
    save_lora({f"transformer.{name}": value for name, value in model.state_dict().items()}, folder / "lora", "#", lora)
    stream = {"num_attention_heads": 1, "attention_head_dim": 12, "num_layers": 1, "ffn_dim": 16}
    config = {
        "output": "run",
        "model": {"video": stream, "audio": stream, "cca_heads": 1, "cca_head_dim": 12},
        "data": {"manifest": str(folder / "mp4"), "fps": 8, "size": [32, 32]},
        "train": {"steps": 3, "micro_batch": 4},
        "optimizer": {"lr": 1e-4},
    }
    (folder / "config/config.yaml").write_text(yaml.safe_dump(config))


@dataclass(frozen=True)
class _Lora:
    rank: int = 2
    alpha: float | None = None
    dropout: float = 0.0
    targets: tuple[str, ...] = ("attention",)
