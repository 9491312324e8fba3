"""The model card of a run: what the weights were trained on, how far, and with which configuration."""

from __future__ import annotations

import yaml

from shared.training.card import Progress, model_card
from shared.utils.config import TrainConfig

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
