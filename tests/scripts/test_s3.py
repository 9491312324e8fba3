"""Clips and shards in an s3, by the commands of docs/data.md as they stand: a local server, the real client."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import ROOT, Command, commands
from safetensors.torch import load_file

from scripts.make_puppets import main as make_puppets

BUCKET = "my-bucket"
FEW = ["train.steps=3", "train.micro_batch=2", "validation.clips=0"]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Variables with which s3:// is a server of this process, with an empty bucket."""
    pytest.importorskip("s3fs", reason="no s3fs: install the extra s3")
    said = "no moto server: pip install 'moto[s3]' flask flask-cors"
    server_module = pytest.importorskip("moto.server", reason=said)
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        place = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
        place |= {"AWS_ACCESS_KEY_ID": "one", "AWS_SECRET_ACCESS_KEY": "two", "CCL_CACHE": str(tmp_path / "kept")}
        for name, value in place.items():
            monkeypatch.setenv(name, value)
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        yield os.environ | place | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    finally:
        server.stop()


def chain() -> list[Command]:
    page = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    return commands(page[page.index("### Object stores") :].partition("\n### ")[0])


def run(words: list[str], folder: Path, environment: dict[str, str]) -> None:
    program = Path(sys.executable).with_name(words[0])
    line = [str(program), *words[1:]]
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}"


@pytest.mark.slow
def test_a_training_from_s3_is_that_from_the_disk(environment: dict[str, str], tmp_path: Path) -> None:
    import s3fs

    for name in ("assets", "configs", "scripts"):
        (tmp_path / name).symlink_to(ROOT / name)
    make_puppets(["--clips", "8", "--output", str(tmp_path / "clips"), "--seed", "3", "--level", "simple"])
    store = s3fs.S3FileSystem()
    store.mkdir(BUCKET)
    store.put(str(tmp_path / "clips"), f"{BUCKET}/clips", recursive=True)
    encode, train = chain()
    short = [part for word in FEW for part in ("--set", word)]
    run(encode.words, tmp_path, environment)
    assert {Path(name).name for name in store.find(f"{BUCKET}/latents")} >= {"00000.tar", "index.json"}
    run([*train.words, *short], tmp_path, environment)
    assert any((tmp_path / "kept").rglob("*"))  # what was read
    from_disk = [word.replace(f"s3://{BUCKET}/latents", "data/latents") for word in train.words]
    run([*from_disk, *short, "--set", "output=outputs/from_disk"], tmp_path, environment)
    weights = [
        load_file(tmp_path / f"outputs/{name}/checkpoint/transformer/diffusion_pytorch_model.safetensors")
        for name in ("from_store", "from_disk")
    ]
    assert weights[0].keys() == weights[1].keys()
    assert all(weight.equal(weights[1][name]) for name, weight in weights[0].items())
