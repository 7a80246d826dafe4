"""Films of how texts form: their data, the page and the GIF."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from test_cli import dlm, spec

from dlm_control import LanguageModel, Trace, UsageError
from dlm_control.tasks.film import Film, film, page, write_film
from dlm_control.tasks.spec import Spec

CONTROLS = [{"keyword": {"words": "pub", "weight": 2.0}}, {"infill": "The [3-30] ."}, {"length": {"at_most": 12}}]
MAPPING = {"controls": CONTROLS, "num_samples": 3, "preset": {"steps": 4, "candidates": 2}}


@pytest.fixture(scope="module")
def made(tiny_lm: LanguageModel) -> Film:
    asked, trace = Spec.from_mapping(MAPPING, "</script> & co.yaml"), Trace()
    samples = tiny_lm.generate(asked.controls, 3, preset=asked.preset.of("gaussian"), callback_on_step=trace)
    return film(asked, trace, samples)


def test_a_film_shows_the_candidates_that_were_chosen(made: Film) -> None:
    assert [(control.name, control.target) for control in made.controls] == [
        ("keyword", "pub"), ("infill", "The [3-30] ."), ("length", "12"),
    ]  # fmt: skip
    assert made.levels == pytest.approx([1.0, 0.75, 0.5, 0.25]) and len(made.scenes) == 3
    for scene in made.scenes:
        assert len(scene.frames) == 4 and scene.passed[1:] == (True, True)
        assert "".join(word.text for word in scene.frames[-1].words) == scene.text
        assert all(frame.words[0].control == 1 and frame.words[-1].control == 1 for frame in scene.frames)
        assert scene.frames[0].energies == (None, None, None)  # the preset's interval begins at 0.95
        assert all(frame.energies[0] is not None and frame.energies[1:] == (None, None) for frame in scene.frames[1:])
    energies = [frame.energies[0] or 0.0 for scene in made.scenes for frame in scene.frames]
    assert made.controls[0].highest == pytest.approx(max(1.0, *energies), abs=1e-3)


def test_a_text_that_stopped_early_stays_and_one_that_failed_is_left_out(tiny_lm: LanguageModel) -> None:
    asked, trace = Spec.from_mapping({"controls": [{"length": 6}], "preset": {"steps": 12, "early_stop": True}}), Trace()
    samples = tiny_lm.generate(asked.controls, 4, preset=asked.preset.of("gaussian"), callback_on_step=trace)
    failed = replace(samples[0], text="", words=(), error="a control failed")
    shown = film(asked, trace, [failed, *samples[1:]])
    assert [scene.text for scene in shown.scenes] == [sample.text for sample in samples[1:]]
    assert {len(scene.frames) for scene in shown.scenes} == {len(shown.levels)}
    with pytest.raises(UsageError, match="--film: no text of spec is finished, the first because: a control failed"):
        film(asked, trace, [failed])


class _Page(HTMLParser):
    """What the tests ask of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_needs_nothing_else_and_can_be_used_by_keyboard(made: Film) -> None:
    text = page(made)
    assert not re.search(r"(src|href)=|https?://|@import", text)
    tags = _Page(text).tags
    assert [tag for tag, _ in tags].count("script") == 2  # a title with </script> in it opens none
    [slider] = [attributes for tag, attributes in tags if tag == "input"]
    assert (slider["type"], slider["min"], slider["max"]) == ("range", "1", "4")
    assert ("label", {"for": "step"}) in tags and ("button", {"type": "button", "id": "play"}) in tags
    assert "prefers-color-scheme: dark" in text and "prefers-reduced-motion" in text
    [data] = re.findall(r'<script type="application/json" id="film">(.*?)</script>', text, re.S)
    held = json.loads(data)
    assert held["title"] == "</script> & co.yaml".rpartition("/")[2]
    assert [scene["text"] for scene in held["scenes"]] == [scene.text for scene in made.scenes]
    assert all(scene.text in text for scene in made.scenes)  # without scripts, too


def test_a_gif_has_a_frame_for_each_level_and_rests_on_the_last(made: Film, tmp_path: Path) -> None:
    write_film(made, tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as picture:
        assert getattr(picture, "n_frames", 1) == 4 and picture.size[0] == 960
        durations = []
        for number in range(4):
            picture.seek(number)
            durations.append(picture.info["duration"])
            colours = picture.convert("RGB").getcolors(1 << 20) or []
            assert len(colours) > 3  # something is drawn
        assert durations == [900, 300, 300, 4000] and picture.info["loop"] == 0


def test_explain_writes_a_film(tmp_path: Path, tiny_folder: Path) -> None:
    file = spec(tmp_path)
    for name in ("film.gif", "film.html"):
        raised = dlm("explain", file, "--model", tiny_folder, "--film", tmp_path / name)
        assert (
            raised.exit_code == 0 and raised.stdout.endswith(f"{tmp_path / name}\n") and (tmp_path / name).stat().st_size > 2000
        )
    refused = dlm("explain", file, "--model", tiny_folder, "--film", tmp_path / "film.mp4")
    assert refused.exit_code == 2 and "expected a name that ends with .gif or .html" in refused.output


def test_a_gif_needs_an_extra(made: Film, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'dlm-control\[plot\]'"):
        write_film(made, tmp_path / "film.gif")
    write_film(made, tmp_path / "film.html")
