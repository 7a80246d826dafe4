"""The studio's page: its server's doors, and, slow, the page in a browser as a person uses it."""

from __future__ import annotations

import importlib.util
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dlm_control import Check, Controller, register_controller
from dlm_control.control import registry
from dlm_control.pipeline import LanguageModel

if importlib.util.find_spec("gradio") is None:
    pytest.skip("needs Gradio: pip install 'dlm-control[studio]'", allow_module_level=True)

ROOT = Path(__file__).parents[1]
BAD = "seed: 1\ncontrols:\n  - length: 0\n"


class Served:
    """A studio on the tiny model, and where its page is."""

    def __init__(self, folder: Path, lm: LanguageModel) -> None:
        from dlm_control.eval.studio.page import build, launch
        from dlm_control.eval.studio.studio import Studio

        @register_controller("opening")
        class Opening(Controller):
            """The text opens with a word.

            Args:
                word: that comes first.
            """

            reads = "log_probs"

            def __init__(self, word: str) -> None:
                self.word = word

            def energy(self, state: Any) -> Any:
                [word] = state.lm.ids(self.word, "opening")
                return -state.log_probs[:, 0, word]

            def check(self, text: str) -> Check:
                return Check(float(text.startswith(self.word)), f"opens with {text.split()[0]!r}")

        self.folder = folder
        self.studio = Studio(folder)
        self.studio.model_of = lambda name: lm
        self.page = build(self.studio)
        self.address = launch(self.page, "127.0.0.1", 0).rstrip("/")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, tiny_lm: LanguageModel) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("studio")
    (folder / "bad.yaml").write_text(BAD)
    (folder / "secret.txt").write_text("a secret")
    results = ROOT / "results" / "default"
    for name in ("pos", "length"):
        shutil.copytree(results / name, folder / "runs" / name)

    made = Served(folder, tiny_lm)
    yield made
    made.page.close(verbose=False)
    registry._registered.pop("opening")


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


# in a browser -------------------------------------------------------------------------------------------------------------

PATIENCE = 300  # seconds, for a busy machine
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
in_browser = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER and importlib.util.find_spec("selenium")),
        reason="needs chromium and its driver, and selenium: apt-get install chromium-driver; pip install selenium",
    ),
]


class Visitor:
    """Somebody at a page, who waits for what should come."""

    def __init__(self, served: Served) -> None:
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        for each in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1440,1000"):
            options.add_argument(each)
        options.binary_location = str(CHROMIUM)
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
        self._address = served.address

    def come(self) -> None:
        """Open the page anew."""
        self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        self.driver.get(self._address)
        self.see("#verdict", "Ready")
        self.card("Texts")

    def all(self, css: str) -> list[Any]:
        return [each for each in self.driver.find_elements("css selector", css) if each.is_displayed()]

    def until(self, holds: Callable[[], Any], what: str) -> Any:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                found = holds()
            except Exception as error:  # drawn anew meanwhile
                found, what = None, f"{what} ({type(error).__name__})"
            if found:
                return found
            time.sleep(0.2)
        said = " | ".join(each.text for each in self.all("#verdict, #texts, .toast-body"))
        raise AssertionError(f"waited in vain for {what}; the page says: {said}")

    def one(self, css: str) -> Any:
        return self.until(lambda: self.all(css), css)[0]

    def see(self, css: str, part: str) -> None:
        self.until(lambda: any(part in each.text for each in self.all(css)), f"{part!r} in {css}")

    def tab(self, name: str) -> None:
        self.until(lambda: [each for each in self.all("[role=tab]") if each.text == name], name)[0].click()

    def card(self, name: str) -> Any:
        """The card of a control."""

        def called() -> list[Any]:
            return [each for each in self.all(".st-card") if each.find_element("css selector", "h3").text == name]

        return self.until(called, f"the card {name}")[0]

    def gone(self, name: str) -> None:
        """No card of that name is left."""
        titles = lambda: [each.find_element("css selector", "h3").text for each in self.all(".st-card")]  # noqa: E731
        self.until(lambda: name not in titles(), f"{name} to go")

    def field(self, card: str, label: str) -> Any:
        """The input of a card's field."""

        def labelled() -> list[Any]:
            inputs = self.card(card).find_elements("css selector", "input, textarea")
            return [each for each in inputs if each.is_displayed() and each.accessible_name.split()[0] == label]

        return self.until(labelled, f"{label} of {card}")[0]

    def write(self, card: str, label: str, text: str) -> None:
        """Replace what a field says."""
        from selenium.webdriver import ActionChains

        self.driver.execute_script("arguments[0].focus(); arguments[0].select()", self.field(card, label))
        ActionChains(self.driver).send_keys(text).perform()

    def add(self, name: str) -> None:
        """Add a control by its list, with the keyboard."""
        from selenium.webdriver.common.keys import Keys

        self.one("#add input").click()
        self.one("#add input").send_keys(f"{name}:")
        self.until(lambda: self.all("[role=option]"), "options")
        self.one("#add input").send_keys(Keys.ENTER)
        self.card(name)

    def yaml(self) -> str:
        return "\n".join(line.text for line in self.all("#yaml .cm-line"))


@pytest.fixture(scope="module")
def somebody(served: Served) -> Iterator[Visitor]:
    made = Visitor(served)
    yield made
    made.driver.quit()


@pytest.fixture
def visitor(somebody: Visitor) -> Visitor:
    somebody.come()
    return somebody


def slow(test: Callable[..., None]) -> Callable[..., None]:
    """A test in a browser."""
    for mark in in_browser:
        test = mark(test)
    return test


@slow
def test_forms_and_yaml_follow_each_other(visitor: Visitor) -> None:
    visitor.tab("YAML")
    visitor.until(lambda: "- length: 18" in visitor.yaml(), "the spec")
    visitor.write("length", "words", "0")  # a fault, at its place and in the verdict, in the words of `dlm validate`
    visitor.see("#verdict", "controls[1].words: expected a whole number above 0, got 0")
    visitor.see(".st-note", "words: expected a whole number above 0, got 0")
    visitor.one("#write").click()
    visitor.tab("Texts")
    visitor.see("#texts", "The spec has problems")
    visitor.write("length", "words", "9")
    visitor.see("#verdict", "Ready")
    visitor.tab("YAML")
    visitor.until(lambda: "- length: 9" in visitor.yaml(), "the edit in the YAML")
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    keys = ActionChains(visitor.driver)
    keys.click(visitor.one("#yaml .cm-content")).key_down(Keys.CONTROL).send_keys(Keys.END).key_up(Keys.CONTROL)
    keys.send_keys("  - keyword: pub").perform()
    visitor.card("keyword#2")
    keys.reset_actions()
    keys.send_keys(Keys.ENTER, "x: [").perform()
    visitor.see("#verdict", "not plain YAML")
    visitor.see("#verdict", "The form shows the last YAML that could be read.")
    visitor.card("keyword#2")


@slow
def test_every_controller_has_a_form_plugins_included(visitor: Visitor) -> None:
    for name in ("infill", "pattern", "pos", "span", "tree", "opening"):
        visitor.add(name)
        visitor.see("#verdict", "missing" if name != "pattern" else "give `match`")
    for name, label, text in (
        ("infill", "template", "The Golden Fox is [3-6] ."), ("pattern", "match", "The * ."), ("opening", "word", "The"),
        ("pos", "tags", "NOPE"), ("span", "spans", "[0, 1, XX]"), ("tree", "tree", "(S"),
    ):  # fmt: skip
        visitor.write(name, label, text)
    for said in ("NOPE", "XX", "controls[7]"):
        visitor.see("#verdict", said)
    for name in ("pos", "span", "tree", "infill"):
        visitor.card(name).find_element("css selector", ".st-remove").click()
        visitor.until(
            lambda name=name: all(c.find_element("css selector", "h3").text != name for c in visitor.all(".st-card")), "…"
        )
    visitor.see("#verdict", "opening conditioned")
    visitor.tab("Python")
    visitor.see(".cm-content", "Opening(word='The')")


@slow
def test_texts_are_written_explained_replayed_saved_and_browsed(visitor: Visitor, served: Served) -> None:
    visitor.one("#write").click()
    visitor.see("#texts", "candidate")
    visitor.see("#texts", "texts obey all controls")
    assert len(visitor.all("#texts li .st-words")) == 4 and visitor.all("#texts .st-check")
    visitor.see("#texts", "18 words, expected 18")
    visitor.one("#texts-name textarea, #texts-name input").send_keys("x")
    visitor.until(lambda: [b for b in visitor.all("button") if b.text == "Save texts"], "Save texts")[0].click()
    visitor.see(".st-verdict", "expected a name that ends with .jsonl")
    visitor.tab("Why")
    visitor.see("#why", "of 4 texts obey all controls")
    visitor.until(lambda: len(visitor.all("#why svg")) == 4, "four pictures")
    visitor.tab("Results")
    visitor.see("#runs", "runs/pos")
    visitor.one("#result input").click()
    visitor.until(lambda: [o for o in visitor.all("[role=option]") if "runs/length" in o.text], "a run")[0].click()
    visitor.see("#detail", "exact_length")


@slow
def test_a_long_run_stops_by_its_button_and_with_its_page(
    visitor: Visitor, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dlm_control.eval.studio import write_tab

    steps, original = list[float](), write_tab.write

    def counted(*args: Any) -> Iterator[Any]:
        for view in original(*args):
            steps.append(time.monotonic())
            time.sleep(0.05)
            yield view

    monkeypatch.setattr(write_tab, "write", counted)
    visitor.card("Texts").find_element("xpath", ".//button[contains(., 'Options of the preset')]").click()
    visitor.write("Texts", "steps", "400")
    visitor.see("#verdict", "Ready")
    visitor.one("#write").click()
    visitor.see("#texts", "candidate")
    visitor.one("#stop").click()
    visitor.see("#texts", "Stopped: 0 of 4")
    visitor.one("#write").click()
    visitor.see("#texts", "candidate")
    visitor.driver.get("about:blank")
    end = time.monotonic() + 60
    while time.monotonic() < end and time.monotonic() - steps[-1] < 5:
        time.sleep(0.5)
    assert time.monotonic() - steps[-1] >= 5, "the run goes on after its page was closed"
    assert len(steps) < 4800


@slow
def test_the_page_is_used_by_keyboard_read_aloud_and_fits_a_telephone(visitor: Visitor) -> None:
    from selenium.webdriver.common.keys import Keys

    nameless = [
        each.get_attribute("outerHTML")[:120]
        for each in visitor.all("button, input, textarea, select, [role=tab], [role=textbox], [role=slider]")
        if not each.accessible_name.strip() and each.get_attribute("tabindex") != "-1"
    ]
    assert nameless == []
    for _ in range(80):
        visitor.driver.switch_to.active_element.send_keys(Keys.TAB)
        if visitor.driver.switch_to.active_element.get_attribute("id") == "write":
            break
    visitor.driver.switch_to.active_element.send_keys(Keys.ENTER)
    visitor.see("#texts", "texts obey all controls")
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    visitor.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for name in ("Compare", "Results", "Write"):
        visitor.tab(name)
        time.sleep(0.5)
        assert visitor.driver.execute_script("return document.documentElement.scrollWidth") <= 390, name


@slow
def test_two_weights_are_compared(visitor: Visitor) -> None:
    visitor.tab("Compare")
    visitor.until(lambda: [e for e in visitor.all("#way label") if "two weights" in e.text], "the choice")[0].click()
    visitor.one("#compare").click()
    visitor.see("#contrast", "A and B on equal seeds")
    visitor.see("#contrast", "B: semantic, weight 3")
    assert len(visitor.all(".st-side li .st-words")) == 8
