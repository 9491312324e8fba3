"""Opens this folder with plain diffusers; the project's packages have to be installed.

    DiffusionPipeline.from_pretrained(FOLDER, custom_pipeline=FOLDER, trust_remote_code=True)
"""

try:
    import ccl.transformer  # noqa: F401
    import mtv.control  # noqa: F401
    import shared.codecs.convolutional  # noqa: F401
    import shared.codecs.linear  # noqa: F401
    import shared.encoders.audio  # noqa: F401
    import shared.encoders.text  # noqa: F401
    from ccl.pipeline import CCLPipeline  # noqa: F401
except ImportError as error:
    told = "this checkpoint is read by the packages ccl, mtv and shared: install the repository"
    raise ImportError(f"{told}, then from ccl import CCLPipeline ({error})") from None
