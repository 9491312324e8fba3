"""Models whose loaded weights compute to the bit what the saved ones did."""

from typing import Any

from diffusers.models.modeling_utils import ModelMixin

from shared.utils.folder_check import CheckedModelMixin


class AlignedModelMixin(CheckedModelMixin, ModelMixin):
    """A `CheckedModelMixin` whose weights on a CPU lie on 64-byte boundaries after `from_pretrained`.

    Weights read by safetensors lie where the file has them; some processors multiply unaligned matrices in another
    order, and the sums then round otherwise. A class names diffusers' `ModelMixin` beside this one: pipelines look for
    that name in its module.
    """

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded  # with output_loading_info
        for weight in (*model.parameters(), *model.buffers()):
            if weight.device.type == "cpu" and weight.data_ptr() % 64:
                weight.data = weight.data.clone()
        return loaded
