"""Options of an evaluation: which clips and tasks of a checkpoint are measured, and how they are sampled."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator

from shared.evaluation.track_variants import VARIANTS
from shared.puppets.lasting import LENGTHS
from shared.puppets.spec import HELD_OUT_SEED
from shared.utils.cli import Interval, PerStream, Thresholds, TrustOptions, option, some_of
from shared.utils.errors import UserError
from shared.utils.files import read_json
from shared.utils.ranges import Batch, Count, Fps, Pair, Scale, Seed, Steps, Workers
from shared.utils.text_files import is_file

QUICK_TASKS = ("t2av", "a2v", "v2a")
JOINT_TASKS = (*QUICK_TASKS, "t2v", "t2a", "i2av", "i2v", "part", "retake", "shots")
TASKS = (*JOINT_TASKS, "mtv")
VARIANT_NAMES = tuple(name.replace(" ", "-") for name in VARIANTS)
TRACKS = ("speech", "effects", "music")


class EvaluationOptions(TrustOptions):
    """What evaluate.py is asked to measure."""

    checkpoint: Path = option(metavar="DIR")
    suite: Literal["puppets"] = option("puppets", "the embedded world (docs/design.md section 9)")
    level: Literal["simple", "full", "shows"] = option("simple")
    held_out: bool = option(False, "clips of shows with pairs and paraphrases that no training clip has")
    held_out_twins: bool = option(False, "the clips of --held-out with usual pairs and words, to compare it with")
    clips: Pair = option(128, "held-out clips per task")
    style: Literal["stage", "cutout"] = option("stage", "how the held-out clips look and sound")
    name_style: bool = option(False, "captions begin with the style's name, as those of make_puppets.py --name-style")
    conflict: bool = option(False, "held-out clips whose text contradicts picture and sound: whom does it believe?")
    each: Count | None = option(
        None, "of the held-out clips, only those that tell something which fewer than N of them tell so far; default: "
        "all; not for shots"
    )  # fmt: skip
    seconds: Count | None = option(
        None, "only held-out clips of this length, on simple the same ones made longer; default: of every length"
    )
    fps: Fps | None = option(None, "frames per second to sample at; default: the checkpoint's")
    output: Path = option(help="for metrics.json and index.html", metavar="DIR", writes="folder")
    sheet: Path | None = option(
        None, "a contact sheet too (png, jpg or webp): of the first 24 captions, with seeds 0 to 23, by all defaults",
        metavar="FILE", writes="file",
    )  # fmt: skip
    tasks: Annotated[tuple[str, ...], BeforeValidator(some_of(TASKS))] | None = option(
        None, f"some of {','.join(TASKS)}; default: {','.join(QUICK_TASKS)}, and mtv if the checkpoint can do it"
    )
    variants: Annotated[tuple[str, ...], BeforeValidator(some_of(VARIANT_NAMES, "none", "all"))] | None = option(
        None, f"of mtv: some of {','.join(VARIANT_NAMES)}, or all; default: none"
    )
    card: bool = option(False, "put the scores into the checkpoint's model card too, as the hub shows them")
    against: Path | None = option(None, "metrics.json of another evaluation, to compare with", metavar="FILE")
    seed: Seed = option(0, "of the noise")
    steps: Steps | None = option(None, "solver steps; default: the pipeline's")
    guidance: Literal["dual", "joint", "context", "text", "none"] | None = option(
        None, "of the joint tasks; default: dual, or text"
    )
    text_scale: PerStream | None = option(None, "how much the text counts, for video and audio", metavar="V[,A]")
    context_scale: PerStream | None = option(
        None, "how much the other modality counts, in the joint tasks", metavar="V[,A]"
    )
    interval: Interval | None = option(
        None, "noise levels, from 0 to 1, between which guidance is on; default: the pipeline's", metavar="LOW,HIGH"
    )
    speech_scale: Scale | None = option(None, "how much the speech counts, in mtv", metavar="W")
    effects_scale: Scale | None = option(None, "how much the effects count, in mtv", metavar="W")
    music_scale: Scale | None = option(None, "how much the music counts, in mtv", metavar="W")
    step_cache: Thresholds | None = option(
        None, "leave blocks out where a stream changes by less from step to step, as 0.1; default: never",
        metavar="V[,A]",
    )  # fmt: skip
    no_context: bool = option(False, "sample on the route 0m: no stream reads the other")
    as_users_do: bool = option(
        False, "sample as sample_joint.py --prompt does: its defaults, one prompt for both streams, the file it writes"
    )
    batch: Batch = option(16, "clips sampled at a time")
    workers: Workers | None = option(None, "processes that sample; default: one per core on a CPU, one on a GPU")
    device: str = option("auto", "auto (default: a GPU if there is one), cpu, cuda, cuda:1 ...")

    def settled(self, index: Mapping[str, Any]) -> Self:
        """Copy these options with tasks filled in where they were not given, from the checkpoint's index, and variants.
        UserError for mtv without a control network, and for options that do not go with the tasks or each other."""
        if self.no_context and not (self.guidance is self.context_scale is self.interval is None):
            said = "give no --guidance, --context-scale or --interval with it"
            raise UserError(f"--no-context leaves the other modality out; {said}")
        if self.card and not (self.checkpoint / "README.md").is_file():
            raise UserError(f"--card: {self.checkpoint} has no README.md, its model card; leave the option out")
        controlled, joint = bool((index.get("control") or [None])[0]), ",".join(QUICK_TASKS)
        tasks = self.tasks or (*QUICK_TASKS, *(("mtv",) if controlled and not self.no_context else ()))
        if "mtv" in tasks and not controlled:
            only = f"{self.checkpoint} has no control network; it holds a joint model only"
            raise UserError(f"--tasks mtv: {only}: give --tasks {joint}, or a checkpoint trained with mtv")
        if self.no_context and "mtv" in tasks:
            raise UserError(f"--no-context: mtv has no such route; give --tasks {joint}")
        self._check_clips(tasks)
        lengths = LENGTHS[self.level]
        if self.seconds not in (None, *lengths):
            last = ", ".join(map(str, lengths))
            raise UserError(
                f"--seconds {self.seconds}: the clips of level {self.level} last {last} s; give one of these"
            )
        self._check_as_users_do(tasks)
        of_mtv = (*(f"{track}_scale" for track in TRACKS), "variants")
        for names, needed in ((("guidance", "context_scale"), JOINT_TASKS), (of_mtv, ("mtv",))):
            given = [name for name in names if getattr(self, name) is not None]
            if given and not set(tasks) & set(needed):
                raise UserError(f"--{given[0].replace('_', '-')} is for --tasks {','.join(needed)}; leave it out")
        return self.model_copy(update={"tasks": tasks, "variants": self.variants or ()})

    def _check_clips(self, tasks: Sequence[str]) -> None:
        """Raise UserError for clips that the level does not have, and for a sheet of what is not sampled."""
        for flag, given in (("--held-out", self.held_out), ("--held-out-twins", self.held_out_twins)):
            if given and self.level != "shows":
                raise UserError(f"{flag}: level {self.level} has no pairs that are held out; give --level shows")
        unlike = (f"--style {self.style}", self.style != "stage"), ("--name-style", self.name_style)
        for flag, given in (*unlike, ("--conflict", self.conflict)):
            if given and self.level == "shows":
                raise UserError(f"{flag}: level shows has no such clips; give --level simple or full")
        if self.held_out and self.held_out_twins:
            raise UserError("--held-out-twins are clips to compare those of --held-out with; give one of the two")
        if self.each is not None and set(tasks) == {"shots"}:
            raise UserError("--each chooses clips of one shot; leave it out for --tasks shots alone")
        if "shots" in tasks and self.level != "shows":
            raise UserError(f"--tasks shots: level {self.level} has clips of one shot only; give --level shows")
        if self.sheet and self.sheet.suffix not in (".png", ".jpg", ".webp"):
            raise UserError(f"--sheet {self.sheet}: the picture's name must end in .png, .jpg or .webp")
        if self.sheet and not set(tasks) & {*JOINT_TASKS} - {"shots"}:
            raise UserError(f"--sheet shows what is made of text: give one of --tasks {','.join(JOINT_TASKS[:-1])} too")

    def _check_as_users_do(self, tasks: Sequence[str]) -> None:
        """Raise UserError for what sample_joint.py would not be given."""
        if not self.as_users_do:
            return
        if lacking := [name for name in ("mtv", "part") if name in tasks]:
            said = f"--as-users-do is how sample_joint.py samples, which has no {lacking[0]}"
            raise UserError(f"{said}; give other --tasks")
        for name in ("steps", "guidance", "text_scale", "context_scale", "interval", "no_context", "step_cache"):
            if getattr(self, name):
                raise UserError(
                    f"--as-users-do leaves every setting as it is; give no --{name.replace('_', '-')} with it"
                )

    def read_against(self) -> dict[str, Any] | None:
        """Metrics.json of the evaluation --against, to be compared with one of these settled options. UserError where
        it is not there or none, without values per clip, on other clips, or of other tasks."""
        path, wanted = self.against, self.tasks or ()
        if path is None:
            return None
        if not is_file(path):
            raise UserError(f"--against {path}: no such file; give the metrics.json of another evaluation")
        here: dict[str, Any] = {"suite": self.suite, "level": self.level, "held_out_seed": HELD_OUT_SEED}
        try:
            metrics = read_json(path)
            there = {name: metrics["config"][name] for name in here}
            for name in ("seconds", "fps", "held_out", "held_out_twins", "each", "conflict", "name_style"):
                here[name], there[name] = getattr(self, name) or None, metrics["config"].get(name)
            here["style"], there["style"] = self.style, metrics["config"].get("style", "stage")
            tasks = {task: result for task, result in metrics["tasks"].items() if "per_clip" in result}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"--against {path}: not the metrics.json of an evaluation") from None
        for name, value in there.items():
            if value != (ours := here[name]):
                raise UserError(f"--against {path}: its {name} is {value}, here {ours}; the clips must be the same")
        if not tasks.keys() & set(wanted):
            lacking = f"no values per clip of {', '.join(wanted)}"
            raise UserError(f"--against {path}: it holds {lacking}; evaluate that checkpoint again")
        return {**metrics, "tasks": tasks}

    def scales(self) -> dict[str, Any]:
        """Find what was given of mtv's guidance: scales by what they count (text, speech, effects, music), interval."""
        scales = {track: getattr(self, f"{track}_scale") for track in TRACKS}
        scales |= {"text": self.text_scale and self.text_scale[0], "interval": self.interval}
        return {name: value for name, value in scales.items() if value is not None}
