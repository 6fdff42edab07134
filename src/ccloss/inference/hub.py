"""Upload of a trained model to the Hugging Face Hub."""

import tempfile
from pathlib import Path

from ccloss.errors import InputError, import_package
from ccloss.inference.export import write_hub
from ccloss.inference.model import TrainedModel


def push(model: TrainedModel, name: str, private: bool = False) -> str:
    """Uploads weights, configuration and model card of a trained model.

    Args:
        model: loaded from a run folder or weights.
        name: ``OWNER/NAME`` of the repository, which is created if it does not exist.
        private: create a private repository.

    Returns:
        The address of the commit.

    Raises:
        InputError: ``model`` was exported to ``onnx`` or ``torch``, huggingface_hub is not
            installed, or the Hub rejects the upload.
    """
    huggingface_hub = import_package("huggingface_hub", "push", "hub")
    network = model.classifier("push")
    api = huggingface_hub.HfApi()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        write_hub(network, model.record, path, name)
        try:
            api.create_repo(name, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=name, folder_path=path, commit_message="Model trained with ccloss"
            )
        except Exception as error:  # errors of the network have many types
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"{name} cannot be uploaded ({reason}); check the name, the connection and "
                "`hf auth login`"
            ) from error
    return str(commit.commit_url)
