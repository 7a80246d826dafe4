"""Models into folders and onto the hub, with what belongs to them."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from dlm_control.diffusion.backbone import Backbone
from dlm_control.support.errors import UsageError
from dlm_control.support.hub import bundled

BESIDE = ("README.md", "guides", "teacher", "fields.yaml", "preset.yaml")  # in the folder of a model


def save_backbone(lm: Backbone, folder: Path) -> None:
    """Write network and tokenizer, and the card, guides, teacher, fields and preset that lie beside the model.

    Raises:
        UsageError: the folder is there already and not empty, or no folder.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"save_pretrained: {folder} is there already and not an empty folder; give another name")
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    home = bundled().get(lm.source, Path(lm.source).expanduser())
    for name in BESIDE:
        if lm.source and (home / name).is_dir():
            shutil.copytree(home / name, folder / name)
        elif lm.source and (home / name).is_file():
            shutil.copyfile(home / name, folder / name)


def push_backbone(lm: Backbone, repo_id: str, private: bool = False) -> str:
    """Save a model into a repository of the hub, which is made if it is not there.

    Args:
        lm: the model.
        repo_id: such as `owner/model`.
        private: of a repository that is made.

    Returns:
        The address of the commit.

    Raises:
        UsageError: the hub cannot be reached, or refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    with TemporaryDirectory() as temporary:
        save_backbone(lm, Path(temporary) / "model")
        try:
            hub = HfApi()
            hub.create_repo(repo_id, private=private, exist_ok=True)
            return str(hub.upload_folder(repo_id=repo_id, folder_path=Path(temporary) / "model"))
        except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError) as error:
            raise UsageError(f"push_to_hub: {repo_id!r} cannot be written: {error}") from None
