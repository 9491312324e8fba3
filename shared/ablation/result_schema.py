"""What a kept result holds: a file that somebody edited, cut or mixed up is one line with its place in it."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.utils.errors import UserError
from shared.utils.files import read_json


class _Part(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False)


class _Clips(_Part):
    value: list[float | None]
    weight: list[float]


class _Value(_Part):
    value: float
    interval: list[float] | None
    clips: _Clips | None
    floor: float | None = None
    ceiling: float | None = None


class _Curve(_Part):
    step: list[int]
    loss: list[float]


class _Machine(_Part):
    cores: int
    torch: str
    gpus: list[str]


class _Point(_Part):
    values: dict[str, _Value | None]


class _Result(_Part):
    variant: str
    seed: int
    commit: str
    machine: _Machine
    seconds: dict[str, float]


class _RunResult(_Result):
    kind: Literal["run"]
    samples: int | None = None
    values: dict[str, _Value | None]
    curve: dict[str, _Curve]


class _GuidanceResult(_Result):
    kind: Literal["guidance"]
    points: list[_Point]


def read_result(file: Path) -> dict[str, Any]:
    """Read RESULTS/NAME.json. UserError: no result of a run, or the first place where it is not as it was written."""
    result = read_json(file)
    kinds: dict[Any, type[_Result]] = {"run": _RunResult, "guidance": _GuidanceResult}
    kind = kinds.get(str(result.get("kind")))
    if kind is None or not {"variant", "seed"} <= result.keys():
        raise UserError(f"{file}: not the result of a run; leave only such files in this folder")
    try:
        kind.model_validate(result)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{file}: {where}: {first['msg']}; copy it again, or run its ablation again") from None
    return result
