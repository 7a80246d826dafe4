"""The studio's page in a browser, as a person uses it."""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dlm_control.eval.records import TextRecord
from dlm_control.support.records import record_text

PATIENCE = 120  # seconds, for a busy machine
RESULTS = Path(__file__).parents[1] / "results" / "default"
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
NEEDED = {
    "Gradio: pip install 'dlm-control[studio]'": importlib.util.find_spec("gradio"),
    "selenium: pip install selenium": importlib.util.find_spec("selenium"),
    "Chromium and its driver: apt-get install chromium-driver": CHROMIUM and DRIVER,
}
LACKING = [what for what, found in NEEDED.items() if not found]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(LACKING), reason=f"needs {'; '.join(LACKING)}")]


class Visitor:
    """Somebody at the page, who waits for what should come."""

    def __init__(self, address: str) -> None:
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        for each in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1440,1000"):
            options.add_argument(each)
        options.binary_location = str(CHROMIUM)
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
        self._address = address

    def come(self) -> None:
        """Open the page anew."""
        self.driver.get(self._address)
        self.see("#verdict", "Ready")
        self.card("Texts")

    def all(self, css: str) -> list[Any]:
        """What is shown."""
        return [each for each in self.driver.find_elements("css selector", css) if each.is_displayed()]

    def until(self, holds: Callable[[], Any], what: str) -> Any:
        """Wait until something holds; the page may be drawn anew meanwhile."""
        from selenium.common.exceptions import WebDriverException

        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                if found := holds():
                    return found
            except WebDriverException:
                pass
            time.sleep(0.2)
        said = " | ".join(each.text for each in self.all("#verdict, #texts, .toast-body"))
        raise AssertionError(f"waited in vain for {what}; the page says: {said}")

    def see(self, css: str, part: str) -> None:
        """Wait for words."""
        self.until(lambda: any(part in each.text for each in self.all(css)), f"{part!r} in {css}")

    def click(self, css: str, text: str = "") -> None:
        """Click what has this text, or begins with it."""

        def clicked() -> bool:
            found = [each for each in self.all(css) if each.text.startswith(text)]
            if found:
                found[0].click()
            return bool(found)

        self.until(clicked, f"{css} {text}")

    def tab(self, name: str) -> None:
        """Turn to a tab."""
        self.click("[role=tab]", name)

    def titles(self) -> list[str]:
        """Of the cards."""
        return [each.text for each in self.all(".st-card-title h3")]

    def card(self, name: str) -> Any:
        """The card of a control."""
        called = lambda: [each for each in self.all(".st-card") if each.find_element("css selector", "h3").text == name]  # noqa: E731
        return self.until(called, f"the card {name}")[0]

    def field(self, card: str, label: str) -> Any:
        """The input of a card's field, when it can be written into."""

        def labelled() -> list[Any]:
            inputs = self.card(card).find_elements("css selector", "input, textarea")
            return [each for each in inputs if each.is_enabled() and each.accessible_name.split()[:1] == [label]]

        return self.until(labelled, f"{label} of {card}")[0]

    def write(self, card: str, label: str, text: str) -> None:
        """Replace what a field says, again where the form was drawn anew meanwhile."""

        def written() -> bool:
            if self.field(card, label).get_attribute("value") != text:
                self._replace(lambda: self.field(card, label).click(), text)
                time.sleep(1)
            return bool(self.field(card, label).get_attribute("value") == text)

        self.until(written, f"{text} in {label} of {card}")

    def choose(self, field: Callable[[], Any], choice: str) -> None:
        """Choose from a list by the beginning of an entry."""

        def chosen() -> bool:
            entries = [each for each in self.all("[role=option]") if each.text.removeprefix("✓").strip().startswith(choice)]
            (entries[0] if entries else field()).click()
            return bool(entries)

        self.until(chosen, f"{choice} in a list")

    def write_yaml(self, text: str) -> None:
        """Replace the spec; leaves the tab YAML open."""
        self.tab("YAML")
        self._replace(lambda: self.click("#yaml .cm-content"), text)

    def yaml(self) -> str:
        """The spec, in the tab YAML."""
        return "\n".join(line.text for line in self.all("#yaml .cm-line"))

    def _replace(self, enter: Callable[[], None], text: str) -> None:
        from selenium.webdriver import ActionChains
        from selenium.webdriver.common.keys import Keys

        enter()
        ActionChains(self.driver).key_down(Keys.CONTROL).send_keys("a").key_up(Keys.CONTROL).perform()
        self.driver.execute_cdp_cmd("Input.insertText", {"text": text})


@pytest.fixture(scope="module")
def somebody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    from dlm_control.eval.studio.page import build, launch
    from dlm_control.eval.studio.studio import Studio

    folder = tmp_path_factory.mktemp("studio")
    for name in ("pos", "length"):
        shutil.copytree(RESULTS / name, folder / "runs" / name)
    records = [
        TextRecord(target="2 words", text="A pub.", metrics={"exact_length": 1.0}, lm_score=1.0, failed=[]),
        TextRecord(
            target="3 words", text="A river.", metrics={"exact_length": 0.0}, lm_score=2.0, failed=["2 words, expected 3"]
        ),
    ]
    (folder / "runs" / "length" / "texts.jsonl").write_text("".join(map(record_text, records)))
    page = build(Studio(folder))
    made = Visitor(launch(page, "127.0.0.1", 0))
    yield made
    made.driver.quit()
    page.close(verbose=False)


@pytest.fixture
def visitor(somebody: Visitor) -> Visitor:
    somebody.come()
    return somebody


def test_form_and_yaml_follow_each_other(visitor: Visitor) -> None:
    visitor.tab("YAML")
    visitor.write("length", "words", "0")
    visitor.see("#verdict", "controls[1].words: expected a whole number above 0, got 0")
    visitor.see(".st-note", "words: expected a whole number above 0, got 0")
    visitor.write("length", "words", "9")
    visitor.see("#verdict", "Ready")
    visitor.until(lambda: "- length: 9" in visitor.yaml(), "the edit in the YAML")
    visitor.write_yaml("controls: [length: 7, keyword: pub]")
    visitor.until(lambda: visitor.titles() == ["length", "keyword", "Texts"], "the form of the new YAML")
    assert visitor.field("length", "words").get_attribute("value") == "7"


def test_texts_form_with_ticks_and_reasons(visitor: Visitor) -> None:
    visitor.write("Texts", "num_samples", "1")
    visitor.choose(lambda: visitor.field("Texts", "preset"), "fast")
    visitor.tab("YAML")
    visitor.until(lambda: "preset: fast" in visitor.yaml() and "num_samples" not in visitor.yaml(), "the YAML")
    visitor.tab("Texts")
    visitor.click("#write")
    visitor.see("#texts", "Writing, at noise level")
    visitor.see("#texts", "of 1 texts obey all controls")
    visitor.see("#texts .st-check", "18 words, expected 18")
    visitor.tab("Why")
    visitor.until(lambda: len(visitor.all("#why svg")) == 4, "four pictures")


def test_a_long_run_stops(visitor: Visitor) -> None:
    visitor.write_yaml("{num_samples: 8, preset: {steps: 300}, controls: [length: 18]}")
    visitor.see("#verdict", "length exact")
    visitor.tab("Texts")
    visitor.click("#write")
    visitor.see("#texts", "Writing, at noise level")
    visitor.click("#stop")
    visitor.see("#texts", "Stopped:")
    visitor.until(lambda: not visitor.all("#stop") and visitor.all("#write")[0].is_enabled(), "the button to write again")


def test_two_presets_are_compared(visitor: Visitor) -> None:
    visitor.write_yaml("{num_samples: 1, controls: [length: 9]}")
    visitor.see("#verdict", "length exact")
    visitor.tab("Compare")
    visitor.choose(lambda: visitor.all("input[aria-label='Preset B']")[0], "fast")
    visitor.click("#compare")
    visitor.see("#contrast", "A and B on equal seeds")
    visitor.see("#contrast", "B: preset fast")
    assert len(visitor.all(".st-side li .st-words")) == 2


def test_results_are_found_and_filtered(visitor: Visitor) -> None:
    visitor.tab("Results")
    visitor.see("#runs", "runs/pos")
    visitor.choose(lambda: visitor.all("#result input")[0], "runs/length")
    visitor.see("#detail", "exact_length")
    visitor.see("#listed", "1 to 2 of 2")
    visitor.click("#show label", "failed a check")
    visitor.see("#listed", "1 to 1 of 1")
    visitor.see("#listed", "no 3 words")
    visitor.click("#search input, #search textarea")
    visitor.driver.switch_to.active_element.send_keys("pub")
    visitor.see("#listed", "No such text")
    visitor.click("#show label", "all")
    visitor.see("#listed", "A pub.")
