"""Clips as a grid of players in HTML, which play in step, and other pieces of the page. No Gradio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from ccl.app.jobs import Update

MOST_CLIPS = 12
FILES = "gradio_api/file="  # the address of a file below a folder that the page may serve, from the page's own
SOUNDS = (".wav", ".mp3", ".flac", ".m4a", ".ogg")


@dataclass(frozen=True)
class MadeClip:
    """A file that was made, and what stands below its player; `whole`: it is not there yet in full."""

    file: Path
    caption: str
    whole: bool = True


def address(file: Path) -> str:
    """Address of a file on the page."""
    return FILES + quote(str(file))


def players(clips: Sequence[MadeClip]) -> str:
    """Make a grid of players with captions and links to download; several have a button that plays them in step, with
    the sound of the first alone."""
    figures = [_figure(clip) for clip in clips]
    button = Markup('<button class="together" onclick="playTogether(this)">Play in step</button>')
    grid = Markup('<div class="clips">{}{}</div>').format(Markup("").join(figures), button if len(clips) > 1 else "")
    return str(grid if clips else "")


def _figure(clip: MadeClip) -> Markup:
    kind = "audio" if clip.file.suffix.lower() in SOUNDS else "video"
    loops = Markup(" loop") if kind == "video" else ""
    player = Markup('<{} controls preload="metadata"{} src="{}"></{}>').format(kind, loops, address(clip.file), kind)
    link = Markup('<a href="{}" download="{}">Download</a>').format(address(clip.file), clip.file.name)
    return Markup("<figure>{}<figcaption>{} {}</figcaption></figure>").format(
        player, clip.caption, link if clip.whole else Markup("<em>so far</em>")
    )


def pictures(files: Sequence[Path]) -> str:
    """Put pictures one below the other."""
    return str(Markup("").join(Markup('<img class="found" src="{}">').format(address(file)) for file in files))


def thumbnails(keyframes: Sequence[tuple[float, str]]) -> str:
    """Put keyframes side by side, with their times."""
    small = Markup('<figure class="small"><img src="{}"><figcaption>{:g} s</figcaption></figure>')
    one = (small.format(address(Path(file)), time) for time, file in keyframes)
    return str(Markup('<div class="clips">{}</div>').format(Markup("").join(one)))


def status(update: Update) -> str:
    """Line about a job: a bar while it runs, what was wrong where it failed, and what else was said."""
    bar = Markup("")
    if update.state == "running":
        bar = Markup('<progress max="100" value="{}"></progress> ').format(round(100 * update.share))
    notes = Markup("").join(Markup('<div class="note">{}</div>').format(note) for note in update.notes)
    return str(Markup('<div class="status {}">{}{}</div>{}').format(update.state, bar, update.line, notes))


#: Plays all clips of a grid from their beginning, and keeps them within a frame or two of the first.
SCRIPT = """
<script>
function playTogether(button) {
  const all = [...button.closest(".clips").querySelectorAll("video, audio")];
  const [first, ...others] = all;
  for (const one of all) { one.pause(); one.currentTime = 0; }
  for (const one of others) one.muted = true;
  first.ontimeupdate = () => {
    for (const one of others)
      if (Math.abs(one.currentTime - first.currentTime) > 0.08) one.currentTime = first.currentTime;
  };
  first.onpause = () => others.forEach((one) => one.pause());
  first.onplay = () => others.forEach((one) => one.play());
  first.play();
}
</script>
"""
STYLE = """
.clips { display: flex; flex-wrap: wrap; gap: 12px; align-items: flex-start; }
.clips figure { margin: 0; width: 240px; }
.clips video { width: 240px; height: 240px; object-fit: contain; background: #111; image-rendering: pixelated; }
.clips audio { width: 240px; }
.clips figcaption { font-size: 13px; padding-top: 2px; overflow-wrap: anywhere; }
.clips .together { align-self: center; padding: 6px 12px; border: 1px solid currentColor; border-radius: 6px; }
.clips figure.small, .clips figure.small img { width: 90px; margin: 0; }
img.live { width: 480px; max-width: 100%; image-rendering: pixelated; background: #111; }
img.found { max-width: 100%; margin: 0 0 10px; background: white; }
.status { min-height: 1.6em; }
.status.failed { color: #b3261e; font-weight: 600; }
.status.failed::before { content: "Cannot be done: "; }
.dark .status.failed { color: #ff897d; }
.note { font-size: 13px; opacity: 0.8; }
footer { display: none !important; }
"""
