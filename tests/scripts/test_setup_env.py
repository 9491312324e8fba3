"""scripts/setup_env.py where everything is set up already."""

from __future__ import annotations

import pytest

from scripts.setup_env import main


def test_what_is_set_up_is_left_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("torchaudio: ") and ("nothing to do" in first or "left as it is" in first)
    assert "torchaudio 2." in second and "torch 2." in second
