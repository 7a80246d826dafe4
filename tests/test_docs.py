"""The guide to controllers, and the example plugins, run as they stand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

import pytest
import yaml
from test_cli import dlm

from dlm_control import load
from dlm_control.controllers.guides.sentence_encoder import ENCODER
from dlm_control.support import registry
from dlm_control.tasks.preflight import preflight
from dlm_control.tasks.run import run_spec
from dlm_control.tasks.spec import Spec, read_spec

ROOT = Path(__file__).parents[1]
BACKBONES = ROOT / "docs" / "backbones.md"
EVALUATION = ROOT / "docs" / "evaluation.md"
CONTROLS = ROOT / "docs" / "controls.md"
GUIDE = ROOT / "docs" / "add-a-controller.md"
BATCHES = ROOT / "docs" / "batches.md"
INDEX = ROOT / "docs" / "index.md"
SOFT = ROOT / "docs" / "soft-controls.md"
PATTERNS = ROOT / "docs" / "patterns.md"
SECURITY = ROOT / "docs" / "security.md"
TUTORIAL = ROOT / "docs" / "tutorial.md"
WATCH = ROOT / "docs" / "watch.md"
PLUGINS = ROOT / "examples" / "plugins"


def run(*command: object, cwd: Path, path: Path | None = None) -> str:
    """What a command prints; it must succeed."""
    environment = {**os.environ, "PYTHONPATH": str(path or ""), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def fresh(folder: Path) -> Iterator[None]:
    """As in a process of its own that runs in a folder: what is imported from there and registered is forgotten."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "registered", dict(registry.registered))
        patch.setattr(sys, "path", [str(folder), *sys.path])
        patch.chdir(folder)
        before = {*sys.modules}
        yield
        for name in {*sys.modules} - before:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
                del sys.modules[name]


def python(code: str, folder: Path) -> str:
    """What a program prints."""
    with fresh(folder), redirect_stdout(StringIO()) as printed:
        exec(compile(code, "<docs>", "exec"), {"__name__": "__main__"})
    return printed.getvalue()


def command(line: str, folder: Path) -> str:
    """What a `dlm` command prints; it must succeed."""
    with fresh(folder):
        done = dlm(*line.split()[1:])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_guide_works_from_top_to_bottom(tmp_path: Path) -> None:
    blocks = re.findall(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.M | re.S)
    assert [kind for kind, _, _ in blocks] == ["python", "python", "python", "yaml", "sh", "toml"]
    printed = []
    for kind, file, content in blocks:
        if file:
            (tmp_path / file).write_text(content, encoding="utf-8")
        elif kind == "python":
            printed.append(python(content, tmp_path))
        elif kind == "sh":
            printed += [command(line, tmp_path) for line in content.splitlines()]
    kit, composed, valid, generated, explained = printed
    assert kit == ""
    assert composed.count("'near-end': True") >= 3
    assert valid == "near.yaml: ok; near-end conditioned, length exact, semantic conditioned\n"
    assert re.search(r"[34] of 4 obey all controls", generated)
    assert "near-end changed most words" in explained and re.search(r"^  1  .*riverside/near-end", explained, re.M)


def test_a_backbone_of_ones_own_is_found_and_steered(tmp_path: Path) -> None:
    blocks = re.findall(r"^```(python|toml)(?: file=(\S+))?\n(.*?)^```", BACKBONES.read_text(encoding="utf-8"), re.M | re.S)
    assert [kind for kind, _, _ in blocks] == ["python", "toml", "python"]
    (_, file, module), (_, _, project), (_, _, use) = blocks
    (tmp_path / file).write_text(module, encoding="utf-8")
    package = tmp_path / "counts-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: counts\nVersion: 1.0\n")
    points = re.sub(r'\[project\.entry-points\."(.*)"\]', r"[\1]", project).replace('"', "")
    (package / "entry_points.txt").write_text(points)
    texts = run(sys.executable, "-c", use, cwd=tmp_path, path=tmp_path).splitlines()
    assert len(texts) == 3 and all("river" in text for text in texts)


def test_the_page_on_patterns_works(tmp_path: Path) -> None:
    blocks = re.findall(r"^```(yaml|sh)(?: file=(\S+))?\n(.*?)^```", PATTERNS.read_text(encoding="utf-8"), re.M | re.S)
    assert [kind for kind, _, _ in blocks] == ["yaml", "sh", "yaml"]
    (_, file, spec), (_, _, commands), (_, _, choice) = blocks
    (tmp_path / file).write_text(spec, encoding="utf-8")
    (tmp_path / "choice.yaml").write_text(choice, encoding="utf-8")
    valid, generated = (command(line, tmp_path) for line in commands.splitlines())
    assert command("dlm validate choice.yaml", tmp_path) == "choice.yaml: ok; choice conditioned\n"
    assert valid == "pattern.yaml: ok; pattern conditioned, length exact\n"
    assert "4 of 4 obey all controls" in generated


def test_the_page_on_watching_works(tmp_path: Path) -> None:
    stream, callback = re.findall(r"^```python\n(.*?)^```", WATCH.read_text(encoding="utf-8"), re.M | re.S)
    printed = python(stream, tmp_path).splitlines()
    assert len(printed) == 2 * 16 + 1 and "'Japanese': 'semantic'" in printed[-2] and "'riverside': 'keyword'" in printed[-2]
    assert printed[-3].startswith(f"16/16 {printed[-1]} ")
    assert python(callback, tmp_path) == ""


def test_the_first_page_works(tmp_path: Path) -> None:
    [code] = re.findall(r"^```python\n(.*?)^```", INDEX.read_text(encoding="utf-8"), re.M | re.S)
    assert re.fullmatch(r"(.* True\n){2}", python(code, tmp_path))


def test_the_tutorial_works_from_top_to_bottom(tmp_path: Path) -> None:
    blocks = re.findall(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```", TUTORIAL.read_text(encoding="utf-8"), re.M | re.S)
    printed, said = [], [content for kind, _, content in blocks if kind == "text"]
    for kind, file, content in blocks:
        if file:
            (tmp_path / file).write_text(content, encoding="utf-8")
        elif kind == "python":
            printed.append(python(content, tmp_path))
        elif kind == "sh":
            printed += [command(line, tmp_path) for line in content.splitlines()]
    free, three, valid, generated, explained, own_valid, own = printed
    assert len(free.splitlines()) == 3
    assert three.startswith(said[0]) and valid == said[1] and said[3] in explained
    assert re.search(r"[34] of 4 obey all controls", generated) and (tmp_path / "three.jsonl").exists()
    assert own_valid == "own.yaml: ok; short-words exact, semantic conditioned, length exact\n"
    assert re.search(r"[34] of 4 obey all controls", own)
    with fresh(tmp_path):
        assert dlm("validate", "wrong.yaml").stderr == said[2]
        (tmp_path / "both.yaml").write_text("include: [short_words.py]\ncontrols: [short-words: 8, keyword: riverside]")
        assert "no text can obey them" in dlm("validate", "both.yaml").stderr


def test_the_page_on_security_works(tmp_path: Path) -> None:
    [commands] = re.findall(r"^```sh\n(.*?)^```", SECURITY.read_text(encoding="utf-8"), re.M | re.S)
    (tmp_path / "their.py").write_text("open('ran', 'w').close()")
    (tmp_path / "their.yaml").write_text("include: [their.py]\ncontrols: [length: 9]")
    for line in commands.splitlines():
        with fresh(tmp_path):
            done = dlm(*line.split()[1:])
        assert done.exit_code == 2 and "their.py (sha256 " in done.stderr and not (tmp_path / "ran").exists()


def test_each_example_of_a_control_is_a_spec() -> None:
    lm = load("e2e")
    examples = re.findall(r"^```yaml\n(controls:\n.*?)^```", CONTROLS.read_text(encoding="utf-8"), re.M | re.S)
    assert len(examples) == 10
    for example in examples:
        preflight(Spec.from_mapping(yaml.safe_load(example)), lm)


def test_the_page_on_controls_works(tmp_path: Path) -> None:
    page = CONTROLS.read_text(encoding="utf-8").partition("## Which control holds which word")[2]
    blocks = re.findall(r"^```(yaml|sh|text)(?: file=(\S+))?\n(.*?)^```", page, re.M | re.S)
    assert [kind for kind, _, _ in blocks] == ["yaml", "sh", "text"]
    (_, file, spec), (_, _, commands), (_, _, said) = blocks
    (tmp_path / file).write_text(spec, encoding="utf-8")
    valid, explained = (command(line, tmp_path) for line in commands.splitlines())
    assert valid == said
    assert re.search(r"^  1  The/infill Mill/infill is/infill .*Japanese/semantic.* \./infill$", explained, re.M)


def test_the_page_on_batches_works(tmp_path: Path) -> None:
    blocks = re.findall(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```", BATCHES.read_text(encoding="utf-8"), re.M | re.S)
    assert [kind for kind, _, _ in blocks] == ["yaml", "jsonl", "sh", "text", "python"]
    (_, spec, template), (_, rows, table), (_, _, line), (_, _, said), (_, _, code) = blocks
    (tmp_path / spec).write_text(template, encoding="utf-8")
    (tmp_path / rows).write_text(table, encoding="utf-8")
    with fresh(tmp_path):
        done = dlm(*line.split()[1:])
    assert (done.exit_code, done.stderr) == (0, said)
    assert re.match(r"3 rows: [12] of 2 texts obey all controls, 1 rows failed; .* written to texts.jsonl", done.stdout)
    texts = [json.loads(each) for each in (tmp_path / "texts.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [each["variables"]["id"] for each in texts] == ["a1", "a2", "a3"]
    assert [len(each["words"]) for each in texts] == [12, 0, 10] and texts[2]["text"].startswith("The Mill is ")
    assert re.fullmatch(
        r"1 .* (True|False)\n2 .* (True|False)\nwords: expected a whole number above 0, got -1\n", python(code, tmp_path)
    )


def test_the_page_on_evaluation_works(tmp_path: Path) -> None:
    page = EVALUATION.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(python|yaml|sh|toml)(?: file=(\S+))?\n(.*?)^```", page, re.M | re.S)
    assert [kind for kind, _, _ in blocks] == "python python yaml python sh python toml python".split()
    files: dict[str, str] = {}
    for _, file, content in blocks:
        files[file] = f"{files.get(file, '')}\n\n{content}"
    for file in ("own.py", "rising.yaml"):
        (tmp_path / file).write_text(files[file], encoding="utf-8")
    [evaluate] = [content for kind, _, content in blocks if kind == "sh"]
    done = command(f"{evaluate} --set steps=4 --set candidates=1", tmp_path)
    assert re.search(r"^  at-most +1\.0000 .* n=3$", done, re.M) and re.search(r"^  questions +0\.0000 .* n=3$", done, re.M)
    kit, data = [content for kind, file, content in blocks if kind == "python" and not file]
    assert python(kit, tmp_path) == ""
    printed = python(data, tmp_path)
    assert printed.startswith("[1.0, 1.0, 1.0]\n") and "[Length(" in printed
    assert "['target', 'number', 'text', 'controls', 'no-repeat', 'at-most', 'all_satisfied', 'lm_score'," in printed


def test_a_black_box_control_is_obeyed_by_particles() -> None:
    spec = read_spec(PLUGINS / "regex.yaml")
    lm = load(spec.model)
    plain = lm.generate(spec.controls, spec.num_samples, spec.seed)
    assert sum(sample.passed for sample in run_spec(spec, lm)) == 4 > sum(sample.passed for sample in plain)


def test_a_classifier_steers_from_yaml() -> None:
    done = command(f"dlm generate {ROOT / 'examples' / 'sentiment.yaml'} --num-samples 4", ROOT)
    assert re.search(r"[34] of 4 obey all", done)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of reading levels, as pip installs it."""
    target = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--target", target]
    source = tmp_path_factory.mktemp("source") / "package"  # pip builds in place, and the clone should stay clean
    run("cp", "-r", PLUGINS / "dlm-control-level", source, cwd=target)
    run(sys.executable, "-m", "pip", "install", *options, source, cwd=target)
    return target


def test_an_installed_package_composes_from_yaml(installed: Path) -> None:
    assert re.search(r"level +dlm-control-level +model", command("dlm ls controllers", installed))
    rows = ["split\tlabel\ttext", *["train\t1,2\tThe pub is cheap .", "train\t5,6\tModerately priced cuisine ."] * 3]
    (installed / "table.tsv").write_text("\n".join(rows))
    code = "from dlm_control_level.train import main; main()"
    run(sys.executable, "-c", code, "--data", "table.tsv", "--out", "runs/level.json", cwd=installed, path=installed)
    (installed / "runs" / "level.json").rename(installed / "level.json")
    kept = """if True:
        from dlm_control import check_controller
        from dlm_control_level.controller import Level
        texts = {"satisfying": ["The pub is cheap ."], "violating": ["Moderately priced cuisine ."]}
        check_controller(Level("level.json", at_most="A2"), **texts, faulty=[lambda: Level("level.json")])
    """
    run(sys.executable, "-c", kept, cwd=installed, path=installed)
    spec = PLUGINS / "dlm-control-level" / "example.yaml"
    assert "4 of 4 obey all" in command(f"dlm generate {spec}", installed)
    (installed / "spec.yaml").write_text("controls: [{level: {model: level.json, at_most: Z9}}]")
    with fresh(installed):
        done = dlm("validate", "spec.yaml")
    assert done.exit_code == 2 and "unknown 'Z9'; there are: A1, A2" in done.stderr


@pytest.mark.slow
def test_a_level_goes_with_a_pattern_tags_and_a_length_on_everyday(installed: Path) -> None:
    easy, hard = (
        ("The dog is big .", "A man is in the house ."),
        ("Comprehensive legislation notwithstanding , ambiguity persists .",),
    )
    rows = [
        f"{split}\t{level}\t{text}"
        for texts, level in ((easy, "1,2"), (hard, "5,6"))
        for text in texts
        for split in ("train", "dev")
    ]
    (installed / "levels.tsv").write_text("\n".join(["split\tlabel\ttext", *rows * 4]))
    code = "from dlm_control_level.train import main; main()"
    options = ("--data", "levels.tsv", "--out", "level.json", "--scores", "scores.json")
    run(sys.executable, "-c", code, *options, cwd=installed, path=installed)
    scores = json.loads((installed / "scores.json").read_text())["splits"]["dev"]
    assert scores["labels"] == 24 and scores["right_by_the_commonest"] <= scores["right"] and scores["within_one_level"] == 1
    spec = PLUGINS / "dlm-control-level" / "everyday.yaml"
    valid = command(f"dlm validate {spec}", installed)
    assert valid.endswith("ok; pattern conditioned, level steered, pos steered, length exact\n")
    command(f"dlm generate {spec} --out texts.jsonl", installed)
    for line in (installed / "texts.jsonl").read_text(encoding="utf-8").splitlines():
        checks = json.loads(line)["checks"]
        assert checks["pattern"]["score"] == checks["length"]["score"] == 1 and "level" in checks and "pos" in checks


def test_the_package_keeps_the_contract(installed: Path, tmp_path: Path) -> None:
    tests = PLUGINS / "dlm-control-level" / "tests"
    raised = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests, cwd=tmp_path, path=installed)
    assert "5 passed" in raised


def test_the_page_on_soft_controls_works(tmp_path: Path) -> None:
    blocks = re.findall(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```", SOFT.read_text(encoding="utf-8"), re.M | re.S)
    (tmp_path / "rating").symlink_to(ROOT / "examples" / "sentiment" / "e2e-rating")
    printed = []
    for kind, file, content in blocks:
        if file:
            (tmp_path / file).write_text(content, encoding="utf-8")
        elif kind == "python":
            printed.append(python(content, tmp_path))
        elif kind == "sh" and (find_spec(ENCODER) or "topic" not in content):
            printed += [command(line, tmp_path) for line in content.splitlines()]
    valid, generated, weighed, steered, rated, temperature, *explained = printed
    assert steered == "sentiment.yaml: ok; classifier steered, length exact\n" and "of 1 obey all controls" in rated
    assert 0.1 < float(temperature) < 60
    assert all("topic raises" in each for each in explained)
    assert valid == "points.yaml: ok; reward weighed, semantic conditioned\n"
    assert re.search(r"[12] of 2 obey all controls", generated)
    assert len(weighed.splitlines()) == 2
