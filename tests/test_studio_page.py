"""The studio's page: what its server answers, and what it refuses."""

from __future__ import annotations

import importlib.util
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from dlm_control.pipeline import LanguageModel

if importlib.util.find_spec("gradio") is None:
    pytest.skip("needs Gradio: pip install 'dlm-control[studio]'", allow_module_level=True)


class Served:
    """A studio on the tiny model, and where its page is."""

    def __init__(self, folder: Path, lm: LanguageModel) -> None:
        from dlm_control.eval.studio.page import build, launch
        from dlm_control.eval.studio.studio import Studio

        self.folder = folder
        self.studio = Studio(folder)
        self.studio.model_of = lambda name: lm
        self.page = build(self.studio)
        self.address = launch(self.page, "127.0.0.1", 0).rstrip("/")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, tiny_lm: LanguageModel) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("studio")
    (folder / "secret.txt").write_text("a secret")

    made = Served(folder, tiny_lm)
    yield made
    made.page.close(verbose=False)


def status(address: str, body: bytes | None = None) -> int:
    """What the server answers."""
    asked = urllib.request.Request(address, data=body, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_the_page_is_served_here_alone(served: Served) -> None:
    assert served.address.startswith("http://127.0.0.1:") and served.page.share is False
    assert [status(f"{served.address}{path}") for path in ("/", "/config", "/theme.css")] == [200, 200, 200]


@pytest.mark.parametrize(
    "path",
    [
        "/file=/etc/passwd", "/file={folder}/secret.txt", "/file/etc/passwd", "/proxy=http://127.0.0.1/", "/info",
        "/component_server", "/../secret.txt", "/assets/../../../../etc/passwd", "/monitoring", "/openapi.json",
    ],
)  # fmt: skip
@pytest.mark.parametrize("prefix", ["", "/gradio_api"])
def test_no_file_is_served(served: Served, prefix: str, path: str) -> None:
    assert status(f"{served.address}{prefix}{path.format(folder=served.folder)}") in (400, 403, 404)


@pytest.mark.parametrize(
    "path", ["/gradio_api/upload", "/gradio_api/component_server", "/gradio_api/run/predict", "/gradio_api/reset"]
)
def test_nothing_is_taken_but_what_the_page_sends(served: Served, path: str) -> None:
    assert status(served.address + path, b"{}") == 403


def test_long_bodies_are_refused(served: Served) -> None:
    assert status(f"{served.address}/gradio_api/queue/join", b" " * 200_001) == 413
