"""Captions by a model of transformers in the process: the server's question and checks, and errors before all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import caption_models as kinds
import numpy as np
import pytest
from caption_models import save_captioner
from chat_server import chat_server

from mtv.captions import compose
from mtv.demix import separated
from shared.curation.build import build
from shared.curation.captions import RATE, caption
from shared.curation.config import Captions, DemixConfig
from shared.curation.engine import Digests
from shared.curation.in_process import check, loads
from shared.curation.record import Context, Finding, Record, Tools
from shared.curation.sources import Source
from shared.curation.stages import STAGES
from shared.data.media_write import write_video
from shared.perception.captioner import Captioner
from shared.utils.errors import UserError

PUPPETS = Path(__file__).parents[3] / "configs/data/demix_puppets.yaml"
TOOLS = Tools(separated, compose)
GOOD = json.dumps({"people": ["a man"], "scene": "A garden at night.", "sound": "A bell rings."})
FEW = {"pictures": 2, "side": 32, "most_tokens": 16, "dtype": "float32"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_captioner(folder / "good", kinds.qwen2_5_vl, [GOOD])
    save_captioner(folder / "second", kinds.llava_onevision, ["I am a fish", GOOD])
    save_captioner(folder / "random", kinds.idefics3)
    save_captioner(folder / "omni", kinds.qwen2_5_omni, [GOOD])
    save_captioner(folder / "ears", kinds.qwen2_audio, ["nothing", '{"sound": "A dog barks."}'])
    return folder


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "x.mp4"
    pictures = np.linspace(0, 200, 8, dtype=np.uint8)[:, None, None, None] + np.zeros((8, 32, 64, 3), np.uint8)
    write_video(path, pictures, 8, np.full((1, RATE), 0.1, np.float32), RATE)
    return path


def found(film: Path, output: Path, people: int = 1, **settings: object) -> Finding:
    config = DemixConfig.model_validate({"captions": FEW | {"source": "transformers"} | settings})
    record = Record("k", film, "k", 0.0, 1.0, "", {"people": {"people": [{}] * people}})
    return caption(record, Context(config, output, TOOLS))


def test_a_good_answer_is_read(models: Path, film: Path, tmp_path: Path) -> None:
    model = str(models / "good")
    wanted = json.loads(GOOD) | {"model": model, "repaired": False}
    assert found(film, tmp_path, model=model) == Finding(figures=wanted)


def test_question_repair_and_checks_are_those_of_the_server(
    models: Path, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for a model that hears: word for word, and byte for byte of pictures and sound."""
    asked: list[Any] = []
    own = Captioner.answer

    def answer(self: Captioner, messages: list[Any], most_tokens: int) -> str:
        asked.append(json.loads(json.dumps(messages)))
        assert most_tokens == FEW["most_tokens"]
        return own(self, messages, most_tokens)

    monkeypatch.setattr(Captioner, "answer", answer)
    for model, answers, hears in (("second", ["I am a fish", GOOD], False), ("omni", [GOOD], True)):
        with chat_server(*answers) as server:
            served = {"source": "server", "model": str(models / model), "url": server.url, "most_per_minute": 1e6}
            by_server = found(film, tmp_path, hears=hears, **served)
        asked.clear()
        assert found(film, tmp_path, model=str(models / model), hears=hears) == by_server
        assert asked == [request["messages"] for request in server.requests] and len(asked) == len(answers)
        assert by_server.figures["repaired"] is (len(answers) == 2)


def test_nonsense_twice_is_refused_with_both_reasons(models: Path, film: Path, tmp_path: Path) -> None:
    finding = found(film, tmp_path, model=str(models / "random"))
    assert (finding.verdict, finding.cause) == ("drop", "caption refused")
    assert finding.reason.count("it holds no JSON object") == 2 and finding.figures["answer"]


def test_another_model_hears(models: Path, film: Path, tmp_path: Path) -> None:
    both = {"model": str(models / "good"), "sound_model": str(models / "ears")}
    figures = found(film, tmp_path, **both).figures
    assert figures["sound"] == "A dog barks." and figures["scene"] == "A garden at night."
    assert figures["repaired"] is True and figures["sound_model"] == both["sound_model"]
    finding = found(film, tmp_path, model=both["model"], sound_model=both["sound_model"], people=2)
    assert finding.verdict == "drop" and "people has 1 entries, and 2 are needed" in finding.reason


def test_clips_go_on_after_one_that_is_refused(models: Path, tmp_path: Path) -> None:
    """By --executor inline, with more workers than models: whoever is seen twice is none that this model tells of."""
    from films import make_film

    make_film(tmp_path / "film.mp4", 5, 4)
    config = DemixConfig.load(PUPPETS, ["shots.detector=none", "shots.most_seconds=2", "shots.least_seconds=0.5"])
    settings = Captions.model_validate(FEW | {"source": "transformers", "model": str(models / "good")})
    config = config.model_copy(update={"captions": settings})
    names = ["shots", "people", "captions"]
    report = build([Source(tmp_path / "film.mp4")], tmp_path / "set", config, TOOLS, 2, names)
    lines = [json.loads(line) for line in (tmp_path / "set/ledger.jsonl").read_text().splitlines()]
    faces = {line["key"]: len(line["figures"]["people"]) for line in lines if line.get("stage") == "people"}
    told = {line["key"]: line for line in lines if line.get("stage") == "captions"}
    assert not report.failed and told.keys() == faces.keys() and {1, 2} <= set(faces.values())
    for key, line in told.items():
        assert line["verdict"] == ("keep" if faces[key] == 1 else "drop")
        assert faces[key] == 1 or f"people has 1 entries, and {faces[key]} are needed" in line["reason"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "no/such/folder"}, r"captions\.model: no/such/folder: no such folder"),
        ({"model": "ears"}, r"captions\.model: .*ears: a Qwen2AudioForConditionalGeneration cannot see"),
        ({"hears": True}, r"captions\.model: .*good: a Qwen2_5_VLForConditionalGeneration cannot hear"),
        ({"sound_model": "second"}, r"captions\.sound_model: .*second: a Llava\w+ cannot hear"),
        ({"model": "untold"}, r"captions\.model: .*untold: no chat template"),
        ({"model": "unread"}, r"captions\.model: .*unread: no model that answers .*preprocessor_config"),
        ({"most_tokens": 4096}, r"captions\.model: a question of \d+ tokens and an answer of 4096"),
        (
            {"sound_model": "ears"},
            r"captions\.sound_model: 10 s of sound; the model hears 4 s: a smaller shots\.most_s",
        ),
        ({"device": "cuda:99"}, r"captions\.device: cuda:99: there is no such device here"),
        ({"device": "moon"}, r"captions\.device: moon: there is no such device here"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_begun(
    changes: dict[str, Any], said: str, models: Path, film: Path, tmp_path: Path
) -> None:
    for name, file in (("untold", "chat_template.jinja"), ("unread", "preprocessor_config.json")):
        if not (models / name).exists():
            shutil.copytree(models / "good", models / name)
            (models / name / file).unlink()
    settings: dict[str, Any] = FEW | {"source": "transformers", "model": "good"} | changes
    settings |= {
        key: str(models / settings[key]) for key in ("model", "sound_model") if "/" not in str(settings.get(key, "/"))
    }
    config = DemixConfig.model_validate({"shots": {"detector": "none"}, "captions": settings})
    with pytest.raises(UserError, match=said) as error:
        build([Source(film)], tmp_path / "set", config, TOOLS, 1, ["shots", "captions"])
    assert "\n" not in str(error.value) and not (tmp_path / "set").exists()


def test_what_can_be_is_told_nothing(models: Path) -> None:
    for model, hears, ears in (("good", False, None), ("omni", True, None), ("random", False, "ears")):
        captions = FEW | {"source": "transformers", "model": str(models / model), "hears": hears}
        captions |= {"sound_model": ears and str(models / ears)}
        shots = {"most_seconds": 4, "least_seconds": 1}
        check(DemixConfig.model_validate({"shots": shots, "captions": captions}), RATE)


def test_a_finding_holds_while_model_and_precision_are_the_same(models: Path, tmp_path: Path) -> None:
    model = shutil.copytree(models / "good", tmp_path / "model")

    def digest(**settings: object) -> str:
        captions = {"source": "transformers", "model": str(model)} | settings
        return Digests(STAGES, DemixConfig.model_validate({"captions": captions}))["captions"]

    first = digest()
    assert digest(device="cuda", processes=3) == first
    assert len({first, digest(dtype="float32"), digest(sound_model=str(models / "ears"))}) == 3
    save_captioner(model, kinds.qwen2_5_vl, [GOOD], seed=1)
    assert digest() != first


def test_only_a_model_that_is_loaded_bounds_the_processes(models: Path) -> None:
    captions = {"source": "transformers", "model": str(models / "good"), "processes": 3}
    loaded = loads(DemixConfig.model_validate({"captions": captions}))
    assert loaded is not None and loaded.processes == 3
    assert {"model.safetensors", "chat_template.jinja", "config.json"} < {file.name for file in loaded.files}
    assert loads(DemixConfig.model_validate({"captions": captions | {"source": "server"}})) is None
