"""Options of the benchmark: sizes make a model, and what does not fit is refused before torch is imported."""

from __future__ import annotations

import pytest

from ccl.analysis.benchmark_options import Cca, Step, Train
from ccl.transformer import DualStreamTransformer
from shared.utils.cli import parse
from shared.utils.errors import UserError


def test_widths_make_a_model():
    words = "--width 32 --audio-width 16 --head-dim 8 --layers 1 --ffn 3"
    options = parse(Step, None, words.split())
    model = DualStreamTransformer(**options.config())
    video, audio = model.video_stream.config, model.audio_stream.config
    assert (video.width, audio.width, video.ffn_dim, audio.ffn_dim, video.num_layers) == (32, 16, 96, 48, 1)
    assert (model.config.cca_heads, model.config.cca_head_dim) == (1, 8)
    assert parse(Step, None, ["--cca-width", "128"]).config()["cca_heads"] == 2


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (Step, ["--width", "100"], "--width 100 is no multiple of --head-dim 64"),
        (Step, ["--cca-width", "100"], "--cca-width 100 is no multiple"),
        (Step, ["--grid", "9,16"], "'9,16' is not F,H,W"),
        (Step, ["--against", "sora"], "sora: give some of wan,ltx2,kandinsky6"),
        (Step, ["--against", "wan", "--tasks", "a2v"], "--against compares task t2av"),
        (Step, ["--tasks", "mtv"], "mtv: give some of t2av"),
        (Train, ["--set-here", "seed=1"], "give --against-checkout"),
        (Train, ["--against-checkout", "nowhere"], "--against-checkout nowhere: no checkout"),
        (Cca, ["--sizes", "1,2"], "'1,2' is not F,S,A"),
    ],
)
def test_what_does_not_fit_is_refused(kind, arguments, message):
    with pytest.raises(UserError, match=message):
        parse(kind, None, arguments)


def test_a_model_that_there_is_not_is_refused():
    with pytest.raises(UserError, match="--model wan3: no such file, and none of the models puppets"):
        parse(Step, None, ["--model", "wan3"]).config()
    with pytest.raises(UserError, match=r"has no video.in_channels"):
        parse(Step, None, ["--model", "puppets"]).config()
