"""Figures of results that are made up."""

from __future__ import annotations

from shared.ablation import figures
from shared.ablation.results import Results


def test_figures_are_the_same_each_time(results: Results) -> None:
    first, again = (figures.svg(figures.endpoint(results, results.plan.endpoints[0])) for _ in range(2))
    assert first == again and first.startswith("<svg") and "<metadata" not in first and ">CCL<" in first
    ((caption, figure),) = figures.curves(results)
    assert caption == "Training loss, t2av video" and [line.get_label() for line in figure.axes[0].lines] == [
        "CCL",
        "bad",
    ]
    assert list(figure.axes[1].lines[0].get_ydata()) == [0.0] * 200  # the reference minus itself
    assert [line.get_label() for line in figures.guidance(results).axes[0].lines] == ["none", "text"]
