"""Sections of a plan."""

from __future__ import annotations

import pytest

from shared.ablation.sections import GuidanceSetting


@pytest.mark.parametrize(
    ("setting", "name", "label"),
    [
        (GuidanceSetting(form="none"), "none", "none"),
        (GuidanceSetting(form="dual", text_scale=2.5, context_scale=3), "dual_2.5_3", "dual 2.5, 3"),
        (GuidanceSetting(form="context", context_scale=(2, 4)), "context_2_4", "context 2, 4"),
    ],
)
def test_a_setting_of_guidance_has_a_files_name_and_one_for_people(
    setting: GuidanceSetting, name: str, label: str
) -> None:
    assert (setting.name, setting.label) == (name, label)
