"""Regions of the picture: each pixel is in one, and where the script has it."""

from __future__ import annotations

from shared.puppets.regions import regions
from shared.puppets.script import sample_spec
from shared.puppets.sound import mouth_opening


def test_regions_are_where_the_script_has_them() -> None:
    side = {"left": slice(0, 32), "right": slice(32, 64)}
    found = 0
    for spec in (sample_spec(32, i) for i in range(8)):
        masks = regions(spec, [mouth_opening(spec, character) for character in spec.characters])
        assert (sum(mask.astype(int) for mask in masks.values()) == 1).all()
        assert masks["rest"].shape == (spec.frames, 64, 64) and masks["rest"].mean() > 0.4
        for name, places in (("people", [c.side for c in spec.characters]), ("objects", [p.slot for p in spec.props])):
            assert masks[name].any() == bool(places)
            for place in places:
                assert masks[name][:, :, side[place]].sum() > 0.9 * masks[name].sum()
                found += 1
    assert found > 8
