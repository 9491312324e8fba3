"""Players and lines as HTML: nothing that a user writes is taken for a tag."""

from __future__ import annotations

from pathlib import Path

from ccl.app.jobs import Update
from ccl.app.players import MadeClip, pictures, players, status, thumbnails


def test_clips_have_players_and_links() -> None:
    html = players([MadeClip(Path("/w/a b.mp4"), "<b>seed</b> 0"), MadeClip(Path("/w/s.wav"), "seed 1", whole=False)])
    assert '<video controls preload="metadata" loop src="gradio_api/file=/w/a%20b.mp4">' in html
    assert 'download="a b.mp4"' in html and "&lt;b&gt;seed&lt;/b&gt; 0" in html and "<b>" not in html
    assert '<audio controls preload="metadata" src="gradio_api/file=/w/s.wav">' in html
    assert html.count("Download") == 1 and "so far" in html
    assert html.count("Play in step") == 1 and "Play in step" not in players([MadeClip(Path("/w/a.mp4"), "")])
    assert players([]) == ""


def test_a_line_tells_of_a_job() -> None:
    running = status(Update("running", "step 1 of <4>", 0.25, notes=("a & b",)))
    assert 'value="25"' in running and "step 1 of &lt;4&gt;" in running and "a &amp; b" in running
    assert status(Update("failed", "no file")) == '<div class="status failed">no file</div>'


def test_pictures_and_thumbnails() -> None:
    assert pictures([Path("/w/1.png"), Path("/w/2.png")]).count("<img") == 2
    assert "2.5 s" in thumbnails([(2.5, "/w/face.png")])
