"""Every script answers --help, a wrong option and a missing file in under 2 s of CPU, before torch is imported; what
samples imports little before its first step."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shared.data.media_write import write_audio

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
LIMIT = 2.0  # s of CPU
#: Runs a script as `python SCRIPT ...` does, and says on the last line whether torch was imported.
DRIVER = """
import runpy, sys
sys.argv = sys.argv[1:]
sys.path[0] = sys.argv[0].rpartition("/")[0]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print("torch" in sys.modules, file=sys.stderr)
"""
#: Stops a script before its first step, and says which modules have run: those that wait have no names of their own.
FIRST_STEP = """
import runpy, sys
from shared.checkpoint.folder import CheckpointMixin
def stop(*_, **__):
    from shared.utils.startup import _DeferredModule
    sys.exit(" ".join(name for name, module in sys.modules.items() if type(module) is not _DeferredModule))
CheckpointMixin.progress_bar = stop
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
#: What takes long to import and no sample needs.
UNUSED = {
    "datasets", "deepspeed", "diffusers.models.autoencoders", "diffusers.models.autoencoders.autoencoder_kl_wan",
    "diffusers.models.transformers", "diffusers.models.transformers.transformer_flux", "diffusers.models.unets",
    "diffusers.models.unets.unet_2d", "diffusers.pipelines.cogvideo.pipeline_cogvideox", "matplotlib", "mtv.separation",
    "scipy.signal", "scipy.stats", "scipy.stats._stats_py", "shared.training", "torch._inductor.compile_fx",
    "torchvision", "transformers.models", "transformers.models.t5", "transformers.models.wav2vec2",
    "torch._dynamo.convert_frame",
}  # fmt: skip
SHIPPED = str(ROOT / "assets/puppets")
SAMPLE = "--prompt bell --output OUT/x.mp4"
#: Arguments of which one, NOWHERE, is a file or folder that there is not.
MISSING = [
    ("ablate", "--plan NOWHERE --output OUT"),
    ("app", "--checkpoint NOWHERE"),
    ("benchmark", "memory --model NOWHERE --zero 0 --gpus 1"),
    ("benchmark", "shards --folder NOWHERE"),
    ("benchmark", "step --model NOWHERE"),
    ("benchmark", "sample --checkpoint NOWHERE"),
    ("benchmark", "sample --model NOWHERE"),
    ("benchmark", "startup --checkpoint NOWHERE"),
    ("benchmark", "train --config NOWHERE"),
    ("benchmark", "train --against-checkout NOWHERE"),
    ("build_dataset", "--input NOWHERE --output OUT --config configs/data/demix.yaml"),
    ("build_dataset", f"--input {ROOT / 'assets'} --output OUT --config NOWHERE"),
    ("check_data", "--manifest NOWHERE"),
    ("check_data", "--manifest OUT --checkpoint NOWHERE"),
    ("convert", "sizes --model NOWHERE"),
    ("convert", "export-wan --checkpoint NOWHERE --output OUT"),
    ("convert", "lora --source NOWHERE --layout original --output OUT"),
    ("convert", "part --source NOWHERE --output OUT"),
    ("check_measures", "--checkpoint NOWHERE"),
    ("check_measures", "--document NOWHERE"),
    ("check_metrics", "--document NOWHERE"),
    ("check_metrics", "--metrics temp_c --weights clip=NOWHERE"),
    ("demix", "--manifest NOWHERE --output OUT"),
    ("doc_tables", "--compare NOWHERE"),
    ("encode", f"--manifest NOWHERE --checkpoint {SHIPPED} --output OUT"),
    ("encode", "--manifest NOWHERE --checkpoint NOWHERE --output OUT"),
    ("evaluate", "--checkpoint NOWHERE --output OUT"),
    ("export", "--run NOWHERE --output OUT"),
    ("fit_codecs", "--manifest NOWHERE --output OUT"),
    ("plan", "--config NOWHERE"),
    ("plan", "--recipes NOWHERE"),
    ("probe", "--checkpoint NOWHERE --manifest NOWHERE --output OUT/x.json"),
    ("probe", f"--checkpoint {SHIPPED} --manifest NOWHERE --output OUT/x.json"),
    ("sample_joint", f"{SAMPLE} --checkpoint NOWHERE"),
    ("sample_joint", f"{SAMPLE} --audio NOWHERE"),
    ("sample_joint", f"{SAMPLE} --image NOWHERE"),
    ("sample_joint", f"{SAMPLE} --lora NOWHERE"),
    ("sample_joint", "--prompts NOWHERE --output OUT/x.mp4"),
    ("sample_joint", "--timed-prompts NOWHERE --output OUT/x.mp4"),
    ("sample_mtv", f"{SAMPLE} --music NOWHERE --checkpoint NOWHERE"),
    ("sample_mtv", f"{SAMPLE} --speech3 NOWHERE"),
    ("sample_mtv", f"{SAMPLE} --audio NOWHERE"),
    ("score", "NOWHERE --metrics temp_c --weights clip=NOWHERE --output OUT"),
    ("score", f"NOWHERE --metrics temp_c --weights clip={SHIPPED} --output OUT"),
    ("show_clip", "NOWHERE --output OUT/x.png"),
    ("study", "NOWHERE --output OUT"),
    ("study", "NOWHERE --output NOWHERE --votes NOWHERE"),
    ("train_ccl", "--config NOWHERE"),
    ("train_mtv", "--config NOWHERE"),
]


def answer(name: str, *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and the last line of stderr of a script, which may neither import torch nor take long."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", DRIVER, str(ROOT / "scripts" / f"{name}.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    *said, torch = done.stderr.splitlines()
    assert torch == "False", f"torch is imported: {done.stderr}"
    assert (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime) < LIMIT
    return done.returncode, done.stdout, said[-1] if said else ""


@pytest.mark.parametrize("name", [script.stem for script in SCRIPTS])
def test_help_and_an_option_that_there_is_not(name: str) -> None:
    code, text, _ = answer(name, "--help")
    assert code == 0 and text.startswith("usage:")
    command = re.findall(r"(?m)^  ([a-z-]+\|[a-z|-]+)$", text)
    code, _, error = answer(name, *(word.split("|")[0] for word in command), "--helpp")
    assert code == 2 and error.startswith("error: unknown option --helpp; the nearest is --help ")
    asks_for_a_file = re.search(r"--(config|manifest|checkpoint|plan|model|run) ", text)
    assert not asks_for_a_file or name in dict(MISSING)


@pytest.mark.parametrize(("name", "words"), MISSING, ids=lambda text: text.replace(SHIPPED, "SHIPPED"))
def test_a_file_that_is_missing(name: str, words: str, tmp_path: Path) -> None:
    words = words.replace("OUT", str(tmp_path / "out")).replace("NOWHERE", str(tmp_path / "nowhere"))
    code, _, error = answer(name, *words.split())
    assert code == 2 and error.startswith("error: ") and "nowhere" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["sample_joint", "sample_mtv"])
def test_what_is_imported_before_the_first_step(name: str, tmp_path: Path) -> None:
    sound = tmp_path / "sound.wav"
    write_audio(sound, np.zeros((1, 16000), np.float32), 16000)
    words = ["--prompt", "bell", "--output", str(tmp_path / "x.mp4")]
    words += ["--effects", str(sound)] if name == "sample_mtv" else []
    command = [sys.executable, "-c", FIRST_STEP, str(ROOT / "scripts" / f"{name}.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    ran = set(done.stderr.splitlines()[-1].split())
    assert {"torch", "diffusers.models.modeling_utils", "shared.nn.dit"} <= ran, done.stderr
    assert not ran & UNUSED
    assert ("mtv.pipeline" in ran) == (name == "sample_mtv") and "shared.checkpoint.conversion" not in ran
