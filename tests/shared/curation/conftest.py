from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from shared.curation.config import DemixConfig

if TYPE_CHECKING:
    from films import Segment

#: What the toy world needs: its pictures are small, and its scenes are alike.
PUPPETS = Path(__file__).parents[3] / "configs/data/demix_puppets.yaml"


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Segment]]:
    """A film of six segments, with a fade and a title card, and its truth."""
    from films import make_film

    path = tmp_path_factory.mktemp("film") / "film.mp4"
    return path, make_film(path, 5, 6)


@pytest.fixture(scope="session")
def config() -> DemixConfig:
    return DemixConfig.load(PUPPETS, ["split.held_out=0"])  # a set of one film


@pytest.fixture(scope="session")
def built(film: tuple[Path, list[Segment]], config: DemixConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the data set that is made of the film."""
    pytest.importorskip("scenedetect")
    from mtv.captions import compose
    from mtv.demix import separated
    from shared.curation.build import build
    from shared.curation.record import Tools
    from shared.curation.sources import Source

    output = tmp_path_factory.mktemp("built") / "set"
    build([Source(film[0], "CC0-1.0")], output, config, Tools(separated, compose), 2)
    return output
