"""The code of docs/extend.md and of the README runs, and does what the text beside it says."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import small
import tiny
import torch

from ccl.baselines import FUSIONS
from ccl.guidance import FULL, OTHER_ONLY, Guidance
from ccl.routing import Task
from shared.data.media import read_video

ROOT = Path(__file__).parents[1]
SAMPLE = {"prompt": "a bell", "duration": 5 / 16, "num_inference_steps": 2}


def blocks(page: str, heading: str) -> list[str]:
    """The Python code below a heading."""
    text = (ROOT / page).read_text(encoding="utf-8")
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert section, heading
    return re.findall(r"```python\n(.*?)```", section[1], re.S)


@pytest.fixture
def page() -> Iterator[ModuleType]:
    """A module in which the code of a page runs."""
    module = ModuleType("code_of_a_page")
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


def run(code: str, page: ModuleType, **names: object) -> None:
    page.__dict__.update(names)
    exec(code, page.__dict__)


def test_guidance_of_ones_own_is_used(page: ModuleType) -> None:
    definition, use = blocks("docs/extend.md", "A guidance form")
    pipe = small.pipeline(small.transformer())
    run(definition, page)
    run(use, page, pipe=pipe)
    assert page.clip.video.shape[1] == 32 and page.clip.audio is not None

    early = page.EarlyContext
    assert set(early(until=0.5).weights("video", 0.4, True)) == {FULL, OTHER_ONLY}
    assert early(until=0.5).weights("video", 0.6, True) == Guidance().weights("video", 0.6, True)
    default, always, never = (pipe(**SAMPLE, guidance=g).audio for g in (None, early(until=0.0), early(until=1.0)))
    assert np.array_equal(default, always) and not np.array_equal(default, never)


@pytest.fixture
def fusions() -> Iterator[None]:
    before = dict(FUSIONS)
    yield
    FUSIONS.clear()
    FUSIONS.update(before)


@pytest.mark.usefixtures("fusions")
def test_a_fusion_of_ones_own_joins_the_streams(page: ModuleType) -> None:
    (code,) = blocks("docs/extend.md", "A fusion")
    run(code, page)
    video, audio = tiny.inputs()
    route = Task.T2AV.route
    untrained, trained = tiny.transformer("fusion", fusion="mean"), tiny.transformer(fusion="mean")
    unread = route.unconditional
    with torch.no_grad():
        assert all(map(torch.equal, untrained(route, video, audio), untrained(unread, video, audio)))
        read, alone = trained(route, video, audio), trained(unread, video, audio)
    assert not any(torch.equal(one, other) for one, other in zip(read, alone, strict=True))


def test_a_route_can_be_tried(page: ModuleType) -> None:
    (code,) = blocks("docs/extend.md", "A task")
    video, audio = tiny.inputs()
    model = tiny.transformer()
    with torch.no_grad():
        run(code, page, model=model, video_input=video, audio_input=audio)
        a2v, _ = model(Task.A2V.route, video, audio)
    assert page.video.shape == a2v.shape and not torch.equal(page.video, a2v)


def test_ten_lines_of_the_readme_make_a_clip(page: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = blocks("README.md", "Ten lines of Python")
    monkeypatch.chdir(ROOT)
    run(code.replace("clip.mp4", str(tmp_path / "clip.mp4")), page)
    frames = read_video(tmp_path / "clip.mp4", 16.0)
    assert len([line for line in code.splitlines() if line]) == 10
    assert frames.shape == (32, 64, 64, 3) and frames.std() > 10
