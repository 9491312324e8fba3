"""What a folder of pyannote.audio may say, and that its models must lie in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from diarisation import CENTROID, TUNED, write_config, write_files

from shared.perception.pipeline_folder import is_pipeline, read_pipeline
from shared.utils.errors import UserError


def test_the_files_of_a_folder_as_it_is_published(tmp_path: Path) -> None:
    told = read_pipeline(write_files(tmp_path))
    names = ["config.yaml", "segmentation/pytorch_model.bin", "embedding/pytorch_model.bin"]
    assert [str(file.relative_to(tmp_path)) for file in told.files] == [
        *names, "plda/xvec_transform.npz", "plda/plda.npz",
    ]  # fmt: skip
    assert told.config.params == TUNED and told.config.pipeline.params.embedding_batch_size == 32
    assert is_pipeline(tmp_path) and not is_pipeline(tmp_path / "plda")


def test_models_may_be_named_as_files_and_a_clustering_without_plda_needs_none(tmp_path: Path) -> None:
    write_files(tmp_path)
    write_config(
        tmp_path, TUNED | {"clustering": CENTROID}, clustering="AgglomerativeClustering", plda=None,
        segmentation=str(tmp_path / "segmentation/pytorch_model.bin"), embedding="embedding",
    )  # fmt: skip
    told = read_pipeline(tmp_path)
    assert told.plda == () and told.segmentation.is_file() and told.embedding.is_file()
    assert told.config.params["clustering"] == CENTROID


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"embedding": "pyannote/wespeaker-voxceleb-resnet34-LM"}, "embedding is pyannote/wespeaker-voxceleb-.* there; "
         r"nothing is fetched: copy it into the folder, as embedding: \$model/embedding"),
        ({"plda": "$model/segmentation"}, r"plda is \$model/segmentation, and .*xvec_transform.npz is not there"),
        ({"plda": None}, "VBxClustering needs plda, and none is named"),
        ({"clustering": "OracleClustering"}, "pipeline.params.clustering = 'OracleClustering': Input should be 'VBx"),
        ({"legacy": True}, "unknown key pipeline.params.legacy"),
    ],
)  # fmt: skip
def test_what_would_be_fetched_or_is_not_known_is_refused(tmp_path: Path, params: dict[str, object], told: str) -> None:
    write_files(tmp_path)
    with pytest.raises(UserError, match=f"config.yaml: .*{told}"):
        read_pipeline(write_config(tmp_path, **params))


def test_another_class_and_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"is no pipeline of pyannote.audio, it has no config.yaml; a folder as pyannote"
    ):
        read_pipeline(tmp_path)
    file = write_files(tmp_path) / "config.yaml"
    published = file.read_text()
    file.write_text(published.replace("pyannote.audio.pipelines.SpeakerDiarization", "subprocess.Popen"))
    with pytest.raises(UserError, match=r"pipeline.name = 'subprocess.Popen': Input should be 'pyannote"):
        read_pipeline(tmp_path)
    file.write_text(published + "preprocessors: {audio: {name: subprocess.Popen, params: {args: ls}}}\n")
    with pytest.raises(UserError, match="unknown key preprocessors"):
        read_pipeline(tmp_path)
    file.write_text("- a list\n")
    with pytest.raises(UserError, match="holds no keys and values"):
        read_pipeline(tmp_path)
