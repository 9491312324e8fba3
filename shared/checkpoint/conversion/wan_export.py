"""The video stream of a joint model as a folder that diffusers' WanTransformer3DModel reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import WanTransformer3DModel

from shared.checkpoint.conversion.safetensors_reader import SourceWeights
from shared.checkpoint.conversion.sharded_writer import check_output, check_space, planned, size_of, write_tensors
from shared.checkpoint.conversion.wan import wan_config
from shared.checkpoint.conversion.weight_map import WeightMap, shapes_of
from shared.nn.dit import StreamConfig
from shared.nn.parameter_names import stream_name
from shared.utils.files import replacing_folder


class WanExport:
    """The export of `checkpoint`, a folder of ours whose video stream has the settings `video`."""

    def __init__(self, checkpoint: Path, video: dict[str, Any], output: Path) -> None:
        """Open the weights. UserError for a stream that Wan cannot hold, or an output that exists."""
        check_output(output)
        self.output = output
        config = wan_config(StreamConfig(**video), str(checkpoint))
        with torch.device("meta"):
            self.model = WanTransformer3DModel(**config)
        weights = SourceWeights.open(checkpoint / "transformer", checkpoint.name)
        ours = {found[1]: name for name in weights.shapes if (found := stream_name(name)) and found[0] == "video"}
        others = [name for name in weights.shapes if name not in ours.values()]
        self.mapping = WeightMap(shapes_of(self.model))
        self.mapping.take(weights, ours)
        self.mapping.leave(weights, others, "Wan has a video stream only")
        self.mapping.check()
        self.report = self.mapping.report

    def write(self, shard_size: str) -> None:
        """Write the folder, in files of at most `shard_size`."""
        tensors = planned(self.mapping, None)
        check_space(self.output, size_of(tensors.values()))
        with replacing_folder(self.output) as folder:
            self.model.save_config(folder)
            write_tensors(folder, tensors, self.mapping, shard_size)
