"""What `scripts/gpu.py` needs, by wheel: a machine for GPUs may lack some, and reach no network to fetch them.

Read before anything else is imported, by the standard library alone. How to carry wheels there: docs/performance.md.
"""

from importlib.util import find_spec

#: Module -> what pip is asked for. Without these no part runs; those of the first line are usually there with torch.
NEEDED = {
    "torch": "torch>=2.11", "transformers": "transformers>=5.17", "accelerate": "accelerate", "peft": "peft",
    "huggingface_hub": "huggingface-hub>=1.32", "safetensors": "safetensors>=0.8", "einops": "einops", "numpy": "numpy",
    "scipy": "scipy", "yaml": "pyyaml", "jinja2": "jinja2", "tqdm": "tqdm", "matplotlib": "matplotlib",
    "typing_extensions": "typing-extensions==4.16.0", "pydantic": "pydantic==2.14.3",
    "pydantic_core": "pydantic-core==2.50.4", "annotated_types": "annotated-types==0.8.0",
    "typing_inspection": "typing-inspection==0.4.5", "diffusers": "diffusers==0.42.1",
    "importlib_metadata": "importlib-metadata==10.2.0", "lazy_importer": "lazy-importer==0.1.0",
}  # fmt: skip
#: Part -> what it needs beside these.
OF_PART = {
    "flash": {"flash_attn": "flash-attn>=2.8"},
    "xformers": {"xformers": "xformers==0.0.35"},
    "tests": {"pytest": "pytest"},
    "toy": {
        "deepspeed": "deepspeed==0.19.8", "hjson": "hjson==3.1.0", "msgpack": "msgpack", "ninja": "ninja",
        "psutil": "psutil", "cpuinfo": "py-cpuinfo", "tensorboard": "tensorboard", "av": "av==18.1.0",
        "soundfile": "soundfile==0.14.0", "cffi": "cffi==2.1.1", "pycparser": "pycparser==3.12",
        "webdataset": "webdataset==1.0.2", "braceexpand": "braceexpand==0.1.7", "ftfy": "ftfy==6.3.1",
        "wcwidth": "wcwidth==0.9.4",
    },
}  # fmt: skip


def missing(part: str | None = None) -> list[str]:
    """List what pip would be asked for, for `part` or, without one, for any part at all."""
    wanted = NEEDED if part is None else OF_PART.get(part, {})
    return [requirement for module, requirement in wanted.items() if find_spec(module) is None]
