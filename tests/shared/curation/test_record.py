from __future__ import annotations

from shared.curation.record import span_key


def test_a_key_tells_films_and_spans_apart_and_not_rounding() -> None:
    spans = [("a", 0.0, 1.0), ("b", 0.0, 1.0), ("a", 0.0, 1.5), ("a", 0.5, 1.0)]
    assert len({span_key(*span) for span in spans}) == 4
    assert span_key("a", 0.1 + 0.2, 1.0) == span_key("a", 0.3, 1.0) and len(span_key("a", 0.0, 1.0)) == 20
