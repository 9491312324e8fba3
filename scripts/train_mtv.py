"""Train audio-driven video in stages, each from what the last one left.

    deepspeed scripts/train_mtv.py --config configs/train/puppets_mtv.yaml --set stages.0.steps=100
    deepspeed scripts/train_mtv.py --config configs/train/mtv_cogvideox.yaml --set backbone=models/CogVideoX-2b

The clips need tracks: a manifest with `tracks` (scripts/make_puppets.py and scripts/demix.py write one). Running the
same command again resumes, in the middle of any stage. OUTPUT then holds codecs/ (unless given), latents/, a folder per
stage (1_basic_face ...) with config.yaml, losses.csv, samples/, state/ and checkpoint/, and checkpoint/, a copy of the
last stage's. A configuration with `backbone` trains on a CogVideoX folder alone, without the joint model (docs/mtv.md,
"On CogVideoX"). With --dry-run nothing is trained or written: what would be refused is, and memory is told.
"""

from mtv.cogvideox.loading import check_cogvideox
from mtv.curriculum import BackboneConfig, CurriculumConfig
from shared.training.inputs import TrainOptions, check_inputs
from shared.utils.cli import parse
from shared.utils.errors import run_main


def main(argv: list[str] | None = None) -> None:
    options = parse(TrainOptions, __doc__, argv)
    config = CurriculumConfig.load(options.config, options.overrides)
    stages = [config.stage(index) for index in range(len(config.stages))]
    check_inputs(config)
    if config.backbone is not None:
        learns_v = any(isinstance(stage, BackboneConfig) and stage.diffusion_loss.v > 0 for stage in stages)
        check_cogvideox(config.backbone, config.data.size, learns_v)
    from ccl.training.build import JointAdapter
    from ccl.training.run import train_stages
    from mtv.cogvideox_adapter import CogVideoXAdapter

    adapter = JointAdapter if config.backbone is None else CogVideoXAdapter
    if options.dry_run:
        from ccl.analysis.dry_run_report import dry_run

        print(dry_run(config, stages, adapter))
    else:
        train_stages(config, stages, adapter)


if __name__ == "__main__":
    run_main(main)
