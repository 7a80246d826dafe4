"""What the studio does behind its page: forms, verdicts, files, runs. None of it needs Gradio."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import run_manifest
from typer.main import get_command

from dlm_control import Check, Controller, register_controller
from dlm_control.cli import build
from dlm_control.control.registry import CONTROLLERS
from dlm_control.eval.records import Figure, Scores, TextRecord
from dlm_control.eval.studio.cards import added, cards_of, edited, names_of, removed, with_value
from dlm_control.eval.studio.export import as_command, as_python, as_yaml
from dlm_control.eval.studio.fields import ABSENT, field_of, fields_of
from dlm_control.eval.studio.folder import Folder
from dlm_control.eval.studio.guard import Stops, guarded
from dlm_control.eval.studio.markup import run_html, verdict_html
from dlm_control.eval.studio.results import chosen, figures_of, overview, run_of, texts_of
from dlm_control.eval.studio.verdict import Verdict, judge
from dlm_control.eval.studio.writing import Text, View, contrasted, seen_at, side_by_side, write
from dlm_control.pipeline import LanguageModel
from dlm_control.sampling.presets import Preset
from dlm_control.support.errors import UsageError
from dlm_control.support.include import include
from dlm_control.support.records import record_text
from dlm_control.support.values import MisfitError, fitted
from dlm_control.support.yaml_file import parse_yaml
from dlm_control.tasks.film import Control, Frame, Word
from dlm_control.tasks.run import files_of
from dlm_control.tasks.spec import Spec, read_spec

ROOT = Path(__file__).parents[1]
Judge = Callable[[str], Verdict]


@pytest.fixture
def judged(tmp_path: Path, tiny_lm: LanguageModel) -> Judge:
    """Verdicts of a studio in an empty folder, whose models are all the tiny one."""
    folder = Folder(tmp_path)
    return lambda text: judge(text, folder, lambda name: tiny_lm)


def content_of(text: str) -> dict[str, Any]:
    return parse_yaml(text, "spec").content


# fields -------------------------------------------------------------------------------------------------------------------


class Anything(Controller):
    """A control with a parameter of every kind.

    Args:
        word: to look for. More is said of it here.
        how: often.
    """

    def __init__(
        self, word: str, how: int = 2, share: float | None = None, loud: bool = False, *,
        sure: bool | None = None, places: Sequence[int] = (), value: str | int | bool = "a",
        table: Mapping[str, int] | None = None,
    ) -> None:  # fmt: skip
        self.word = word

    def check(self, text: str) -> Check:
        return Check(1.0, "yes")


def test_a_constructor_becomes_a_form() -> None:
    fields = fields_of(Anything)
    kinds = {field.name: field.kind for field in fields}
    assert kinds == {
        "word": "text", "how": "number", "share": "number", "loud": "flag", "sure": "choice", "places": "yaml",
        "value": "yaml", "table": "yaml",
    }  # fmt: skip
    assert [field.name for field in fields if field.required] == ["word"]
    assert [field.name for field in fields if field.main] == ["word", "how", "share", "loud"]
    assert (fields[0].about, fields[1].about, fields[1].expects) == ("to look for", "often", "a whole number")


@pytest.mark.parametrize("name", sorted(CONTROLLERS))
def test_every_controller_has_a_form(name: str) -> None:
    fields = fields_of(CONTROLLERS[name])
    assert fields and all(field.about for field in fields)
    assert all(field.choices for field in fields if field.kind == "choice")


@pytest.mark.parametrize(
    "value",
    [
        "Japanese", "yes", "5", "", " padded ", "a: b", "# no comment", "'quoted'", "[0, 2]", "* pub *", "? ? NOUN", "1e3",
        "two\nlines",
        5, -2.5, True, None, [0, 2, "NP"], [[0, 1, "NP"], [2, 3, "VP"]], {"food": "Japanese"}, {"a": [1, {"b": None}]}, 2**60,
    ],
)  # fmt: skip
@pytest.mark.parametrize("annotation", [str, int, float, bool, str | int | bool, Sequence[Any], Any, Mapping[str, Any] | None])
def test_what_a_field_shows_says_the_value(annotation: Any, value: object) -> None:
    field = field_of("x", annotation)
    try:
        fitted(annotation, value)
    except MisfitError:
        assert field.kind_for(value) in ("yaml", "number")  # it is shown, to be mended
    else:
        assert field.read(field.shown(value), field.kind_for(value)) == value


def test_blank_fields_and_defaults_leave_the_key_out() -> None:
    field = field_of("how", int, 2)
    assert [field.read(raw, "number") for raw in (None, "", 2, 2.0)] == [ABSENT] * 4
    assert (field.read(3.0, "number"), field.read(2.5, "number")) == (3, 2.5)
    assert field_of("loud", bool, False).read(False, "flag") is ABSENT
    assert field_of("loud", bool, True).read(False, "flag") is False


# cards --------------------------------------------------------------------------------------------------------------------

EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_yaml_and_form_say_the_same(file: Path) -> None:
    content = content_of(file.read_text(encoding="utf-8"))
    assert content_of(as_yaml(content)) == content
    same = content
    for i, card in enumerate(cards_of(content)):
        for field in (*card.own, *card.use):
            kind = field.kind_for(card.value(field))
            same = edited(same, i, field.name, field.read(field.shown(card.value(field)), kind))
    assert Spec.from_mapping(same) == Spec.from_mapping(content)


def test_controls_are_added_changed_and_removed() -> None:
    content = added({"unconditional": True}, "keyword")
    assert content == {"controls": [{"keyword": {}}]}
    content = edited(content, 0, "words", "riverside")
    assert content == {"controls": [{"keyword": "riverside"}]}
    content = edited(content, 0, "weight", 2.0)
    assert content == {"controls": [{"keyword": {"words": "riverside", "weight": 2.0}}]}
    content = edited(with_value(content, "seed", 3), 0, "weight", ABSENT)
    assert removed(added(content, "length"), 0) == {"controls": [{"length": {}}], "seed": 3}
    assert with_value(content, "seed", ABSENT) == {"controls": [{"keyword": "riverside"}]}


def test_what_a_form_cannot_show_is_kept() -> None:
    content = {"controls": [{"keyword": {"words": "a", "wieght": 2}}, "length", {"nothing": 1}, {"length": "many"}]}
    cards = cards_of(content)
    assert ["wieght" in cards[0].unshown, *(bool(card.unshown) for card in cards[1:])] == [True, True, True, False]
    assert edited(content, 0, "words", "b")["controls"][0] == {"keyword": {"words": "b", "wieght": 2}}
    [words, *_] = cards[3].own
    assert (words.kind_for("many"), words.shown("many")) == ("yaml", "many")
    assert cards_of({"controls": "none"}) == cards_of({}) == []


def test_cards_are_called_what_the_engine_calls_the_controls() -> None:
    content = {"controls": [{"keyword": "a"}, {"keyword": "b"}, {"keyword": {"words": "c", "name": "last"}}]}
    assert names_of(cards_of(content)) == [control.name for control in Spec.from_mapping(content).controls]


# verdicts -----------------------------------------------------------------------------------------------------------------


def test_a_good_spec_is_told_how_firmly_it_is_held(judged: Judge) -> None:
    verdict = judged("controls: [length: 9, keyword: pub]")
    assert verdict.faults == () and verdict.firmness == {"length": "exact", "keyword": "conditioned"}
    assert "Ready" in verdict_html(verdict)


def test_faults_are_those_of_validate(judged: Judge, tmp_path: Path) -> None:
    text = "seed: -1\ncontrols:\n  - length: none\n  - keyword: {words: pub, wieght: 2}\n"
    (tmp_path / "spec.yaml").write_text(text)
    with pytest.raises(UsageError) as raised:
        read_spec(tmp_path / "spec.yaml")
    verdict = judged(text)
    assert verdict.faults == raised.value.issues and len(verdict.faults) == 3
    assert [verdict.line_of(fault.place) for fault in verdict.faults] == [1, 3, 4]
    assert "line 4" in verdict_html(verdict)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("include: [x.py]\ncontrols: [length: 3]", "include: a page cannot run Python files"),
        ("model: /etc\ncontrols: [length: 3]", "model: unknown '/etc'; the studio has: e2e"),
        ("model: owner/model\ncontrols: [length: 3]", "model: unknown 'owner/model'"),
        ("model: ../x\ncontrols: [length: 3]", "model: unknown '../x'"),
        ("controls: [classifier: {model: /etc, label: a}]", "controls[0].model: '/etc': outside of the studio's folder"),
        ("controls: [classifier: {model: ../x, label: a}]", "controls[0].model: '../x': outside of the studio's folder"),
        ("controls: [classifier: ~/x]", "controls[0].model: '~/x': outside of the studio's folder"),
        ("controls: [classifier: {model: owner/model, label: a}]", "controls[0].model: 'owner/model': nothing of that name"),
        ("controls: [topic: {about: pubs, corpus: /etc/passwd}]", "controls[0].corpus: '/etc/passwd': outside"),
        ("controls: [reward: 'os:system']", "no included file is named os.py"),
        ("preset: ../secret.yaml\ncontrols: [length: 3]", "preset: '../secret.yaml': outside of the studio's folder"),
        ("preset: {name: /etc/hostname}\ncontrols: [length: 3]", "preset: '/etc/hostname': outside"),
        ("num_samples: 33\ncontrols: [length: 3]", "num_samples: 33 texts; the studio writes at most 32"),
        ("preset: {candidates: 65}\ncontrols: [length: 3]", "preset: 65 rows side by side"),
        ("preset: {batch_size: 500}\ncontrols: [length: 3]", "preset: 500 rows side by side"),
        ("num_samples: 30\npreset: {steps: 1000}\ncontrols: [length: 3]", "preset: 90,000 network calls"),
        (f"controls: [{', '.join(['length: 3'] * 17)}]", "controls: 17 controls; the studio takes at most 16"),
        (f"controls: [keyword: {'a' * 20_000}]", "the studio takes specs of at most 20,000"),
        ("a: *b", "anchors and aliases are refused"),
        ("controls: [", "not plain YAML"),
        ("", "empty"),
    ],
)
def test_what_a_page_must_not_ask_for(judged: Judge, text: str, said: str) -> None:
    verdict = judged(text)
    assert verdict.spec is None and any(said in str(fault) for fault in verdict.faults), verdict.faults


def test_a_refused_file_does_not_run(judged: Judge, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("open('ran', 'w').close()")
    verdict = judged(f"include: [{tmp_path / 'own.py'}]\nseed: -1\ncontrols: [length: 3]")
    assert [fault.place for fault in verdict.faults] == ["include", "seed"] and not Path("ran").exists()


def test_no_bundled_control_is_told_of_a_path_outside(judged: Judge) -> None:
    told = []
    for name, entry in CONTROLLERS.entries().items():
        for field in fields_of(entry.load()) if entry.origin == "dlm-control" else ():
            if re.search(r"\b(file|folder|path)\b", field.about):
                told.append((name, field.name))
                verdict = judged(f"controls: [{name}: {{{field.name}: /etc/hostname}}]")
                assert "outside of the studio's folder" in str(verdict.faults[0]), (name, field.name)
    assert told == [("classifier", "model"), ("semantic", "domain"), ("topic", "corpus")]


def test_a_plugin_is_told_of_no_path_outside(judged: Judge) -> None:
    made = []

    @register_controller("reader")
    class Reader(Controller):
        """Reads a file."""

        def __init__(self, file: str) -> None:
            made.append(file)

        def check(self, text: str) -> Check:
            return Check(1.0, "yes")

    for path in ("/etc/passwd", "~/secret", "../secret", "a/../../secret"):
        assert "outside" in str(judged(f"controls: [reader: {{file: {path}}}]").faults[0])
    assert made == []
    judged("controls: [reader: inside.txt]")
    assert made == ["inside.txt"]
    assert "outside" not in str(judged("controls: [keyword: ../pub]").faults)  # no file, but words that are unknown


# the folder ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A folder beside a secret, with a link that leads to it."""
    (tmp_path / "secret.yaml").write_text("controls: []\n")
    inside = tmp_path / "inside"
    (inside / "sub").mkdir(parents=True)
    (inside / "own.yaml").write_text("controls: [length: 3]\n")
    (inside / "link.yaml").symlink_to(tmp_path / "secret.yaml")
    (inside / "up").symlink_to(tmp_path)
    return Folder(inside)


OUTSIDE = ["../secret.yaml", "link.yaml", "up/secret.yaml", "/etc/passwd", "~/x.yaml", "sub/../../secret.yaml", "a\0b.yaml"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_nothing_outside_is_read_or_written(folder: Folder, name: str) -> None:
    for act in (lambda: folder.read(name), lambda: folder.new_file(name, ".yaml")):
        with pytest.raises(UsageError, match="outside of the studio's folder"):
            act()


@pytest.mark.parametrize(
    "name", ["own.yaml", "new.py", ".hidden.yaml", ".git/x.yaml", "none/x.yaml", "", "sub", "new.yaml/.yaml"]
)
def test_only_new_files_of_the_right_kind_are_written(folder: Folder, name: str) -> None:
    with pytest.raises(UsageError):
        folder.new_file(name, ".yaml")


def test_files_inside_are_found_read_and_written(folder: Folder) -> None:
    assert folder.specs() == ["own.yaml"] and folder.read("own.yaml").startswith("controls")
    assert folder.new_file("sub/new.yaml", ".yaml") == folder.root / "sub" / "new.yaml"
    with pytest.raises(UsageError, match="larger than 5 bytes"):
        folder.read("own.yaml", 5)
    with pytest.raises(UsageError, match="No such file"):
        folder.read("other.yaml")
    assert folder.models() == ["e2e", "e2e-masked", "everyday"]
    with pytest.raises(UsageError, match="no folder"):
        Folder(folder.root / "none")


# copies -------------------------------------------------------------------------------------------------------------------


def test_the_python_copy_writes_the_same_texts(
    judged: Judge, tiny_lm: LanguageModel, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = judged(
        "num_samples: 2\nseed: 3\npreset: {name: fast, steps: 2}\n"
        "controls: [length: 9, keyword: {words: pub, weight: 0.5, name: bar}, keyword: {words: river, present: false}]"
    )
    assert verdict.spec is not None
    code = as_python(verdict.spec, verdict.content)
    assert "Control('bar', Keyword(words='pub'), weight=0.5)," in code
    code = code.replace("lm = load('e2e')", "").replace("print(sample.text, sample.passed)", "print(sample.text)")
    exec(code, {"lm": tiny_lm})
    chosen_preset = verdict.spec.preset.of("gaussian")
    texts = [sample.text for sample in tiny_lm.generate(verdict.spec.controls, 2, 3, chosen_preset)]
    assert capsys.readouterr().out.splitlines() == texts


def test_a_plugin_of_a_file_is_copied_with_its_file(judged: Judge) -> None:
    file = ROOT / "examples" / "plugins" / "regex.py"
    include(file)
    verdict = judged("controls: [regex: river]")
    assert verdict.spec is not None
    code = as_python(verdict.spec, verdict.content)
    assert f"include('{file}')\nRegex = CONTROLLERS['regex']" in code and "Regex(pattern='river')" in code
    assert as_command("controls: []\n", [str(file)]).endswith(f"--include {file} --watch\n")


# runs ---------------------------------------------------------------------------------------------------------------------


def spec_of(judged: Judge, text: str) -> Spec:
    spec = judged(text).spec
    assert spec is not None
    return spec


SMALL = "num_samples: 2\npreset: {name: fast, steps: 4}\ncontrols: [length: 9, keyword: pub]\n"


def test_a_run_shows_every_step_and_its_end(judged: Judge, tiny_lm: LanguageModel) -> None:
    spec = spec_of(judged, SMALL)
    *steps, last = write(spec, tiny_lm, lambda: False)
    assert [round(view.done, 2) for view in steps] == [0.25, 0.5, 0.75, 1.0] and last.outcome
    chosen_preset = spec.preset.of("gaussian")
    assert [each.text for each in last.outcome.samples] == [
        s.text for s in tiny_lm.generate(spec.controls, 2, 0, chosen_preset)
    ]
    page = run_html(last)
    assert page.count("9 words, expected 9") == 2 and "held by" in run_html(steps[-1])
    assert len(seen_at(last, 0).texts) == 2 and seen_at(last, 0).status == "As it was at noise level 1.00"
    assert seen_at(last, 99) is last


def test_a_run_stops_when_asked(judged: Judge, tiny_lm: LanguageModel) -> None:
    stops = Stops()
    stopped, views = stops.begun("visitor"), []
    for view in write(spec_of(judged, SMALL), tiny_lm, stopped):
        views.append(view)
        stops.stop("visitor")
    assert len(views) == 2 and views[-1].outcome and views[-1].outcome.stopped and views[-1].outcome.film is None
    assert "Stopped" in run_html(views[-1]) and run_html(views[-1]).count("st-fault") == 2


def test_a_new_run_of_a_visitor_ends_the_last_one_only() -> None:
    stops = Stops()
    mine, other = stops.begun("me"), stops.begun("other")
    again = stops.begun("me")
    assert (mine(), other(), again()) == (True, False, False)


def test_two_runs_are_compared_on_equal_seeds(judged: Judge, tiny_lm: LanguageModel) -> None:
    specs = spec_of(judged, SMALL), spec_of(judged, SMALL.replace("fast, steps: 4", "fast, steps: 6"))
    *_, (one, other) = side_by_side(specs, lambda name: tiny_lm, lambda: False)
    assert one and other and one.outcome and other.outcome
    lines = {label: figures for label, *figures in contrasted(one.outcome, other.outcome)}
    assert lines["network calls a text"] == ["4", "6"] and lines["length: obeyed"] == ["2 of 2", "2 of 2"]


def test_markup_of_strangers_is_escaped(judged: Judge) -> None:
    verdict = judged("<img src=x>: 1\ncontrols: [length: 3]")
    assert "<img" not in verdict_html(verdict) and "&lt;img" in verdict_html(verdict)
    text = Text(1, Frame((Word("<script>", 1.0, 0),), (2.0,)), "<i>")
    page = run_html(View((Control("<a>", "<b>", 3.0),), (text,), 0.5, "<u>"))
    for tag in ("script", "i", "a", "b", "u"):
        assert f"&lt;{tag}&gt;" in page and f"<{tag}>" not in page


def test_no_stack_trace_is_shown() -> None:
    def fails(given: str) -> str:
        raise KeyError("secret of the machine")

    said = guarded(fails, lambda message: message)("x")
    assert said.startswith("The studio failed (KeyError)") and "secret" not in said


# results ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def results(tmp_path: Path, judged: Judge, tiny_lm: LanguageModel) -> Folder:
    """A run with two texts, a broken run, and a file of texts."""
    run = tmp_path / "runs" / "length"
    run.mkdir(parents=True)
    scores = Scores(
        suite="length", manifest=run_manifest(), targets=2, texts=2, calls_per_text=48, failed_targets={},
        findings={"exact_length": Figure(0.5, 0.0, 1.0, 2), "lm_score": Figure(1.5, 1.0, 2.0, 2)},
        scorer_overlap={}, by_target={"exact_length": {"a": 1.0, "b": 0.0}, "lm_score": {"a": 1.0, "b": 2.0}},
    )  # fmt: skip
    (run / "scores.json").write_text(record_text(scores))
    texts = [
        TextRecord(target="9 words", text="A pub.", metrics={"exact_length": 1.0}, lm_score=1.0, failed=[]),
        TextRecord(
            target="8 words", text="A river.", metrics={"exact_length": 0.0}, lm_score=2.0, flaws=["repeat"], failed=["3 words"]
        ),
    ]
    (run / "texts.jsonl").write_text("".join(map(record_text, texts)))
    broken = tmp_path / "runs" / "broken"
    broken.mkdir()
    (broken / "scores.json").write_text("{}")
    spec = spec_of(judged, SMALL)
    samples = tiny_lm.generate(spec.controls, 2, 0, spec.preset.of("gaussian"))
    for file, text in files_of(tmp_path / "mine.jsonl", spec, tiny_lm, samples, 1.0).items():
        file.write_text(text)
    return Folder(tmp_path)


def test_results_are_found_and_read(results: Folder) -> None:
    broken, length = overview(results)
    assert length == ("runs/length", "2", "2", "exact_length 50.0 %", "1.50", "–") and "has no suite" in broken[3]
    assert overview(results, "LENG") == [length]
    assert figures_of(run_of(results, "runs/length").scores)[0] == ("exact_length", "0.5000", "0.0000 to 1.0000", "2")
    assert results.texts() == ["mine.jsonl"] and len(texts_of(results, "mine.jsonl")) == 2
    assert texts_of(results, "runs/broken") == []
    for name in ("../x", "runs/none"):
        with pytest.raises(UsageError):
            run_of(results, name)


def test_texts_are_filtered_and_searched(results: Folder) -> None:
    texts = texts_of(results, "runs/length")
    shown = {show: [each.text for each in chosen(texts, show, "")] for show in ("all", "failed a check", "flawed", "passed")}
    assert shown == {
        "all": ["A pub.", "A river."], "failed a check": ["A river."], "flawed": ["A river."], "passed": ["A pub."],
    }  # fmt: skip
    assert [len(chosen(texts, "all", letters)) for letters in ("RIVER", "words", "3 words", "zebra")] == [1, 2, 1, 0]


def test_a_broken_file_of_texts_is_one_message(results: Folder) -> None:
    (results.root / "mine.jsonl").write_text(json.dumps({"text": "A pub."}) + "\n")
    with pytest.raises(UsageError, match=r"mine.jsonl:1: no text of `dlm generate`: KeyError\('checks'\)"):
        texts_of(results, "mine.jsonl")


# the container ------------------------------------------------------------------------------------------------------------


def test_the_dockerfile_copies_what_exists_and_starts_the_studio() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    copied = [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1] if not word.startswith("--")]
    assert copied and all((ROOT / name).exists() for name in copied), copied
    assert {"pyproject.toml", "dlm_control", "controllers", "tasks", "eval"} <= {name.strip("/") for name in copied}
    start = json.loads(next(line for line in lines if line.startswith("ENTRYPOINT ")).removeprefix("ENTRYPOINT "))
    assert start[:2] == ["dlm", "studio"] and "0.0.0.0" in start
    assert any(line.startswith("USER ") for line in lines)


def test_plain_values_of_a_preset_have_fields() -> None:
    assert {field.name for field in fields_of(Preset)} == {*vars(Preset())}
    assert os.sep not in "".join(field.about for field in fields_of(Preset))


def test_the_page_of_documentation_names_what_exists() -> None:
    page = (ROOT / "docs" / "studio.md").read_text(encoding="utf-8")
    lines = [line.partition("#")[0] for line in page.splitlines() if line.startswith("dlm studio")]
    command: Any = get_command(build()).commands["studio"]  # type: ignore[attr-defined]
    parsed = [command.make_context("studio", shlex.split(line)[2:]).params for line in lines]
    assert [(given["folder"], given["port"]) for given in parsed] == [(Path(), 7860), (Path("runs"), 0), (Path(), 7860)]
    assert all((ROOT / file).is_file() for given in parsed for file in given["include"] or ())
    assert all((ROOT / "docs" / picture).is_file() for picture in re.findall(r"[\w-]+\.png", page))
