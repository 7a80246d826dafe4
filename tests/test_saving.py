"""Models that users hold go into folders and onto the hub, and come back through `load` and transformers' Auto classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from transformers import AutoConfig, AutoModel

from dlm_control import LanguageModel, UsageError, load
from dlm_control.diffusion.model import DiffusionLM, DiffusionLMConfig


def test_a_saved_model_is_the_same_with_all_that_lies_beside_it(tiny_folder: Path, tmp_path: Path) -> None:
    (home := tmp_path / "home").mkdir()
    load(tiny_folder).save_pretrained(first := tmp_path / "first")
    assert not (first / "README.md").exists()
    (first / "README.md").write_text("a card")
    (first / "guides" / "structure").mkdir(parents=True)
    (first / "guides" / "structure" / "config.json").write_text("{}")
    (first / "state").mkdir()
    lm = load(first)
    lm.save_pretrained(str(home))
    assert (home / "README.md").read_text() == "a card" and (home / "guides" / "structure" / "config.json").is_file()
    assert not (home / "state").exists()  # of the training, not of the model
    assert load(home).backbone.weights_digest == lm.backbone.weights_digest == load(tiny_folder).backbone.weights_digest
    assert [s.text for s in load(home).generate(steps=2)] == [s.text for s in lm.generate(steps=2)]
    with pytest.raises(UsageError, match="home is there already and not an empty folder; give another name"):
        lm.save_pretrained(home)


def test_a_bundled_model_goes_with_its_card(e2e: LanguageModel, tmp_path: Path) -> None:
    e2e.save_pretrained(tmp_path / "mine")
    assert (tmp_path / "mine" / "README.md").read_text(encoding="utf-8").startswith("---\nlicense: cc-by-sa-4.0")


def test_transformers_finds_our_classes(tiny_folder: Path, tiny_lm: LanguageModel) -> None:
    assert isinstance(AutoConfig.from_pretrained(tiny_folder), DiffusionLMConfig)
    network = AutoModel.from_pretrained(tiny_folder)
    assert isinstance(network, DiffusionLM)
    for name, weights in tiny_lm.backbone.model.state_dict().items():
        assert torch.equal(network.state_dict()[name], weights)


class Hub:
    """Takes what is uploaded."""

    repositories: dict[str, tuple[bool, set[str]]] = {}  # noqa: RUF012

    def create_repo(self, repo_id: str, private: bool, exist_ok: bool) -> None:
        self.repositories.setdefault(repo_id, (private, set()))

    def upload_folder(self, repo_id: str, folder_path: Path) -> str:
        self.repositories[repo_id][1].update(file.name for file in folder_path.iterdir())
        return f"https://huggingface.co/{repo_id}/commit/1"


def test_a_model_is_pushed_to_the_hub(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    assert load(tiny_folder).push_to_hub("me/tiny", private=True) == "https://huggingface.co/me/tiny/commit/1"
    private, files = Hub.repositories["me/tiny"]
    assert private and {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= files


def test_a_hub_that_cannot_be_reached_is_one_error(tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", refuse)
    with pytest.raises(UsageError, match="push_to_hub: 'me/tiny' cannot be written: no network"):
        tiny_lm.push_to_hub("me/tiny")
    with pytest.raises(UsageError, match="push_to_hub: repo_id: expected a string, got 3"):
        tiny_lm.push_to_hub(3)  # type: ignore[arg-type]
