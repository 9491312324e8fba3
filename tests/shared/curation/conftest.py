from __future__ import annotations

import fcntl
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from shared.curation.config import DemixConfig

if TYPE_CHECKING:
    from films import Segment

#: What the toy world needs: its pictures are small, and its scenes are alike.
PUPPETS = Path(__file__).parents[3] / "configs/data/demix_puppets.yaml"


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Folder that one of the processes of a run makes, and all of them read."""
    root = factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    folder = root / name
    with open(root / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made").exists():
            folder.mkdir(exist_ok=True)
            make(folder)
            (folder / "made").touch()
    return folder


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Segment]]:
    """A film of six segments, with a fade and a title card, and its truth."""
    from films import make_film

    def make(folder: Path) -> None:
        (folder / "truth").write_bytes(pickle.dumps(make_film(folder / "film.mp4", 5, 6)))

    folder = made_once(tmp_path_factory, "curated_film", make)
    return folder / "film.mp4", pickle.loads((folder / "truth").read_bytes())


@pytest.fixture(scope="session")
def config() -> DemixConfig:
    return DemixConfig.load(PUPPETS, ["split.held_out=0"])  # a set of one film


@pytest.fixture(scope="session")
def built(film: tuple[Path, list[Segment]], config: DemixConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the data set that is made of the film; several processes read it, and none writes to it."""
    pytest.importorskip("scenedetect")
    from mtv.captions import compose
    from mtv.demix import separated
    from shared.curation.build import build
    from shared.curation.record import Tools
    from shared.curation.sources import Source

    def make(folder: Path) -> None:
        build([Source(film[0], "CC0-1.0")], folder / "set", config, Tools(separated, compose), 2)

    return made_once(tmp_path_factory, "curated_set", make) / "set"
