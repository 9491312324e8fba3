"""The model card of a run: what the weights were trained on, how far, and with which configuration."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import HfApi, ModelCard

from shared.training.card import Progress, add_metrics, model_card
from shared.utils.config import TrainConfig
from shared.utils.errors import UserError

CONFIG = TrainConfig.model_validate({
    "output": "out", "model": {"width": 3}, "data": {"manifest": ["one.jsonl", "two"]},
    "train": {"steps": 9, "micro_batch": 2, "gradient_accumulation_steps": 3, "ema": 0.5},
})  # fmt: skip


def card(progress: Progress, **lines: str) -> str:
    return model_card(CONFIG, progress, title="A title", tags="a, b", use="Read it.", **lines)


def test_the_card_tells_what_the_weights_are() -> None:
    text = card(Progress(7, clips=5, seconds=90.0, processes=2), rows="| made of | x |", then="Measure it.")
    head, about, settings = text.split("\n---\n")[0], text.partition("\n---\n")[2], text.partition("```yaml\n")[2]
    assert yaml.safe_load(head.removeprefix("---\n"))["tags"] == ["a", "b"]
    assert about.startswith("# A title\n\nRead it.\n\n| | |\n|---|---|\n| made of | x |\n| clips | 5 |\n")
    for row in ("| steps | 7 of 9 |", "| clips a step | 12, processes: 2 |", "average of decay 0.5", "| 2 min |"):
        assert row in about
    assert "Trained on:\n- `one.jsonl`\n- `two`\n\nMeasure it.\n\n## Configuration\n" in about
    assert yaml.safe_load(settings.removesuffix("```\n")) == CONFIG.model_dump(mode="json")


def test_what_an_export_does_not_know_is_left_out() -> None:
    text = card(Progress(7, average=False))
    assert "| clips |" not in text and "wall time" not in text and "| weights | of the last step |" in text
    assert "- `two`\n\n## Configuration" in text


def test_of_a_token_budget_the_card_tells_the_tokens() -> None:
    train = CONFIG.train.model_copy(update={"micro_batch": None, "token_budget": 500})
    text = model_card(CONFIG.model_copy(update={"train": train}), Progress(7, processes=2), title="", tags="", use="")
    assert "| tokens a step | at most 3000, processes: 2 |" in text and "clips a step" not in text


METRICS = {"tasks": {"t2av": {"scores": {"event_f1": {"value": 0.9}, "count": {"value": None}}}}}


def test_the_card_says_licence_and_base_and_a_card_of_a_base_is_heeded(tmp_path: Path) -> None:
    assert ModelCard(card(Progress(7))).data.license == "apache-2.0"
    (tmp_path / "README.md").write_text("---\nlicense: mit\nbase_model: some/wan\n---\n# A\n")
    text = model_card(CONFIG.model_copy(update={"init": str(tmp_path)}), Progress(7), title="T", tags="a", use="")
    about = ModelCard(text).data
    assert (about.license, about.base_model, about.library_name) == ("mit", "some/wan", "diffusers")


def test_scores_stand_in_the_cards_own_schema_and_are_renewed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no README\.md"):
        add_metrics(tmp_path, METRICS, "puppets")
    (tmp_path / "README.md").write_text(card(Progress(7)))
    add_metrics(tmp_path, METRICS, "puppets, simple")
    METRICS["tasks"]["t2av"]["scores"]["event_f1"]["value"] = 0.8
    add_metrics(tmp_path, METRICS, "puppets, simple")
    loaded = ModelCard.load(tmp_path / "README.md")
    (result,) = loaded.data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_name) == ("event_f1", 0.8, "puppets, simple")
    assert loaded.data.tags == ["a", "b"] and "## Configuration" in loaded.text


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as an upload of small files asks for."""

    asked: list[tuple[str, str]]
    committed: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.asked.append(("POST", self.path))
        if self.path == "/api/repos/create":
            self._answer({"url": f"http://{self.headers['Host']}/someone/model", "name": "someone/model"})
        elif "/preupload/" in self.path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            self._answer({"files": files})
        elif "/commit/" not in self.path:  # is the card's head well-formed?
            self._answer({"errors": [], "warnings": []})
        else:
            self.committed += [json.loads(line) for line in body.splitlines()]
            self._answer({"commitUrl": f"http://{self.headers['Host']}/someone/model/commit/1", "commitOid": "1"})

    def do_GET(self) -> None:
        self.asked.append(("GET", self.path))
        self._answer({"id": "someone/model", "sha": "0", "siblings": [], "valid": True, "errors": [], "warnings": []})

    def _answer(self, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[HfApi, type[Hub]]]:
    Hub.asked, Hub.committed = [], []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield HfApi(endpoint=f"http://127.0.0.1:{server.server_address[1]}", token="hf_none"), Hub
    server.shutdown()
    server.server_close()


def test_a_checkpoint_is_pushed_to_a_hub_with_its_card(hub: tuple[HfApi, type[Hub]], tmp_path: Path) -> None:
    api, seen = hub
    (tmp_path / "README.md").write_text(card(Progress(7)))
    (tmp_path / "model_index.json").write_text("{}")
    api.create_repo("someone/model")
    api.upload_folder(repo_id="someone/model", folder_path=tmp_path)
    files = {one["value"]["path"] for one in seen.committed if one["key"] == "file"}
    assert files == {"README.md", "model_index.json"} and ("POST", "/api/repos/create") in seen.asked
