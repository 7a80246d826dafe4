"""The `dlm` command as its users meet it."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from dlm_control import cli
from dlm_control.pipeline import load
from dlm_control.support.errors import UsageError
from dlm_control.training.estimate import duration, seconds_per_step
from dlm_control.training.trainer import TrainConfig, Trainer

SPEC = "num_samples: 2\npreset: {steps: 3}\ncontrols:\n  - length: 9\n  - keyword: riverside\n"
OWN = '''
from dlm_control.control.controller import Check, Controller
from dlm_control.control.registry import register_controller

@register_controller("shouting")
class Shouting(Controller):
    """A text in capitals."""

    def __init__(self, marks: int = 1):
        self.marks = marks

    def check(self, text):
        return Check(float(text.isupper()), "not in capitals")
'''


def dlm(*arguments: object) -> Result:
    return CliRunner().invoke(cli.build(), [str(argument) for argument in arguments])


def spec(folder: Path, text: str = SPEC, name: str = "coffee.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("arguments", [["--help"], ["ls"], ["generate", "--help"]])
def test_help_and_ls_import_nothing_heavy_and_answer_at_once(arguments: list[str]) -> None:
    code = (
        "import sys, time; from dlm_control import cli\n"
        f"sys.argv = ['dlm', *{arguments!r}]\n"
        "try: cli.main()\n"
        "except SystemExit as done: assert not done.code, done.code\n"
        "heavy = {'torch', 'transformers', 'datasets', 'accelerate', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert time.process_time() < 4, time.process_time()"  # CPU time; 0.5 s on an idle machine
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_help_names_the_commands() -> None:
    assert {"generate", "validate", "ls", "train"} <= set(dlm("--help").stdout.split())


def test_ls_shows_parameters_defaults_origin_and_purpose() -> None:
    output = dlm("ls", "controllers").stdout
    assert "keyword" in output and "words, present=True, position=None" in output and "dlm-control" in output
    assert "How many" not in output and "A number of words, exact or within bounds" in output


def test_ls_shows_presets_and_samplers() -> None:
    output = dlm("ls").stdout
    assert "fast       for gaussian models  steps=20, candidates=1; the rest as in default of gaussian models" in output
    assert "dpmpp-2m      dlm-control  deterministic, order 2" in output


def test_ls_includes_a_file(tmp_path: Path) -> None:
    own = spec(tmp_path, OWN, "shouting.py")
    output = dlm("ls", "controllers", "--include", own).stdout
    assert f"shouting {own} marks=1" in " ".join(output.split()) and "A text in capitals." in output


def test_ls_of_an_unknown_kind() -> None:
    result = dlm("ls", "controler")
    assert result.exit_code == 2
    assert (
        result.stderr == "ls: unknown 'controler', did you mean 'controllers'?; there are: "
        "controllers, models, presets, samplers, suites, readers, metrics, judges, generators\n"
    )


def test_generate_prints_texts_with_ticks(tmp_path: Path, tiny_folder: Path) -> None:
    out = tmp_path / "out.jsonl"
    result = dlm("generate", spec(tmp_path), "--model", tiny_folder, "--out", out, "--num-samples", 3, "--seed", 5)
    assert result.exit_code == 0, result.output
    assert result.stdout.count("✓ length") == 3
    assert "of 3 obey all controls; " in result.stdout and f"written to {out}" in result.stdout
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(r["index"], r["seed"]) for r in records] == [(0, 5), (1, 5), (2, 5)]
    assert all(r["text"] in result.stdout for r in records)
    assert dlm("generate", spec(tmp_path), "--model", tiny_folder, "--out", out).stderr.endswith(
        "exists; --force replaces it\n"
    )
    assert dlm("generate", spec(tmp_path), "--model", tiny_folder, "--out", out, "--force").exit_code == 0
    assert len(out.read_text().splitlines()) == 2


def test_generate_says_why_a_text_fails(tmp_path: Path, tiny_folder: Path) -> None:
    own = spec(tmp_path, OWN, "shouting.py")
    text = "preset: {steps: 2}\ncontrols: [shouting: 1]"
    result = dlm("generate", spec(tmp_path, text), "--model", tiny_folder, "--include", own)
    assert "✗ shouting: not in capitals" in result.stdout
    assert "0 of 1 obey all controls" in result.stdout


def test_generate_on_a_terminal_without_ticks(tmp_path: Path, tiny_folder: Path) -> None:
    arguments = ["generate", str(spec(tmp_path)), "--model", str(tiny_folder)]
    result = CliRunner(charset="ascii").invoke(cli.build(), arguments)
    assert "ok length" in result.stdout and "?" not in result.stdout


def test_generate_without_controls(tmp_path: Path, tiny_folder: Path) -> None:
    result = dlm("generate", spec(tmp_path, "unconditional: true\npreset: {steps: 2}"), "--model", tiny_folder)
    assert "1 texts, no controls" in result.stdout


def test_generate_refuses_before_the_model_is_loaded(tmp_path: Path) -> None:
    faulty = dlm("generate", spec(tmp_path), "--model", "no/such/model", "--num-samples", 0)
    assert (faulty.exit_code, faulty.stdout) == (2, "")
    assert "num_samples: expected a whole number from 1 to 100000, got 0" in faulty.stderr
    nowhere = dlm("generate", spec(tmp_path), "--model", "no/such/model", "--out", tmp_path / "gone" / "out.jsonl")
    assert "no folder" in nowhere.stderr


@pytest.mark.parametrize(
    ("files", "raised"),
    [
        ({}, "not a model folder, it has no config.json"),
        ({"config.json": "{}"}, "no weights: expected model.safetensors"),
        ({"config.json": "{}", "pytorch_model.bin": "x"}, "a pickle can run code when it is loaded, so it is refused"),
    ],
)
def test_generate_with_a_folder_that_is_no_model(tmp_path: Path, files: dict[str, str], raised: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content)
    result = dlm("generate", spec(tmp_path), "--model", folder)
    assert result.exit_code == 2 and raised in result.stderr


def test_generate_with_weights_of_another_shape(tmp_path: Path, tiny_folder: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in tiny_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "width": 24}))
    result = dlm("generate", spec(tmp_path), "--model", folder)
    assert result.exit_code == 2
    assert str(folder) in result.stderr and "Traceback" not in result.stderr


def test_validate_reports_every_fault_contradictions_included(tmp_path: Path, tiny_folder: Path) -> None:
    good = spec(tmp_path)
    bad = spec(
        tmp_path, "seed: -1\ncontrols:\n  - length: 9\n  - length: 14\n  - keyword: {words: xyzzy}\n  - foo: 1\n", "bad.yaml"
    )
    clash = spec(tmp_path, "seed: -1\ncontrols:\n  - length: 9\n  - length: 14\n", "clash.yaml")
    result = dlm("validate", good, bad, clash, "--model", tiny_folder)
    assert result.exit_code == 2
    assert result.stdout == f"{good}: ok; length exact, keyword conditioned\n"
    assert f"{bad}: 3 problems" in result.stderr
    assert f"{bad}:1: seed: expected" in result.stderr
    assert f"{bad}:5: controls[2] (keyword): the word 'xyzzy' is not among the" in result.stderr
    assert f"{bad}:6: controls[3]: unknown controller 'foo'" in result.stderr
    assert f"{clash}: 2 problems" in result.stderr
    assert f"{clash}:2: controls: no text can obey them: length#1 needs 9 words; length#2 needs 14 words" in result.stderr


def test_validate_reports_a_missing_model_beside_other_faults(tmp_path: Path) -> None:
    path = spec(tmp_path, "model: e3e\nseed: -1\ncontrols: [length: 9]")
    result = dlm("validate", path)
    assert result.exit_code == 2
    assert f"{path}:2: seed: expected" in result.stderr
    assert f"{path}:1: model: neither bundled nor a folder" in result.stderr


def test_validate_passes_when_all_do(tmp_path: Path, tiny_folder: Path) -> None:
    assert dlm("validate", spec(tmp_path), "--model", tiny_folder).exit_code == 0


def test_a_bug_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("dlm_control.tasks.spec.read_spec", broken)
    assert isinstance(dlm("generate", spec(tmp_path)).exception, RuntimeError)


def test_an_interrupt_is_130(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dlm_control.tasks.spec.read_spec", interrupted)
    assert dlm("generate", spec(tmp_path)).exit_code == 130


def greet(name: str) -> None:
    """Say hello."""
    print(f"hello {name}")


def test_other_packages_add_commands_and_a_broken_one_hides_none(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("greet", f"{__name__}:greet", cli.GROUP), EntryPoint("broken", "no_such_module:f", cli.GROUP)]
    monkeypatch.setattr(cli, "entry_points", lambda group: points)
    assert dlm("greet", "you").stdout == "hello you\n"
    monkeypatch.setattr(cli, "entry_points", lambda group: [points[0], points[0]])
    with pytest.raises(UsageError, match="the command 'greet' comes from both"):
        cli.build()


@pytest.fixture(scope="module")
def csv(tmp_path_factory: pytest.TempPathFactory, sentences: tuple[str, ...]) -> Path:
    path = tmp_path_factory.mktemp("data") / "my.csv"
    path.write_text("review\n" + "".join(f'"{sentence}"\n' for sentence in sentences * 30))
    return path


def config(folder: Path, csv: Path, extra: str = "") -> Path:
    sizes = "{dim: 8, width: 16, depth: 1, heads: 2, max_seq_len: 32}"
    text = f"kind: diffusion-lm\nout: {folder}/out\ndata: {csv}\nsteps: 4\nsave_every: 2\neval_every: 4\n"
    return spec(folder, f"{text}recipe: {{text_column: review, tokens: 256, model: {sizes}}}\n{extra}", "train.yaml")


def test_train_estimates_trains_and_stops(tmp_path: Path, csv: Path) -> None:
    result = dlm("train", config(tmp_path, csv), "--until", 2)
    assert result.exit_code == 0, result.output
    assert "diffusion-lm: 2 steps to go, " in result.stderr and "s each on this machine: about " in result.stderr
    assert result.stdout.endswith("out: step 2 of 4\n")
    assert dlm("train", config(tmp_path, csv)).stdout.endswith("out: step 4 of 4\n")
    done = dlm("train", config(tmp_path, csv))
    assert done.exit_code == 2 and "at step 4 of 4 already" in done.stderr
    assert load(tmp_path / "out").generate(num_samples=1, steps=2)


def test_an_interrupted_training_says_how_to_go_on(tmp_path: Path, csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Trainer, until: int | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "run", interrupted)
    result = dlm("train", config(tmp_path, csv))
    assert result.exit_code == 130
    assert "out: stopped at step 0; the same command goes on from the last save" in result.stderr


def test_the_estimate_does_not_disturb_the_run(tmp_path: Path, csv: Path) -> None:
    weights = []
    for name, measured in (("plain", False), ("measured", True)):
        (tmp_path / name).mkdir()
        trainer = Trainer(TrainConfig.read(config(tmp_path / name, csv), {}))
        before = torch.get_rng_state()
        if measured:
            assert seconds_per_step(trainer, 2) > 0
            assert torch.equal(before, torch.get_rng_state())
        trainer.run()
        weights.append(torch.cat([p.flatten() for p in trainer.recipe.model.parameters()]))
    assert torch.equal(*weights)


def test_train_on_a_text_of_one_s_own_asks_for_the_right_column(tmp_path: Path, csv: Path) -> None:
    result = dlm("train", "--data", csv, "--out", tmp_path / "out", "--steps", 1)
    assert result.exit_code == 2
    assert "no column 'ref'" in result.stderr and "it has review; name the right one with --text-column" in result.stderr


def test_train_without_anything() -> None:
    result = dlm("train")
    assert result.exit_code == 2 and "give a config file" in result.stderr


@pytest.mark.parametrize(
    ("extra", "raised"),
    [
        ("lerning: 3", "lerning: unknown key"),
        ("lr: 2e-3", "lr: expected a number above 0, got '2e-3' (YAML wants 2.0e-3, not 2e-3)"),
        ("seed: x", "seed: expected a whole number of 0 or more, got 'x'"),
        ("muon: 1", "muon: expected true or false, got 1"),
        ("trackers: wandb", "trackers: expected a list of names, got 'wandb'"),
        ("steps: 5", "steps: given twice, in line 4 and in line 8"),
    ],
)
def test_faulty_configs(tmp_path: Path, csv: Path, extra: str, raised: str) -> None:
    path = config(tmp_path, csv, extra)
    result = dlm("train", path)
    assert result.exit_code == 2
    assert raised in result.stderr and f"{path}:" in result.stderr


def test_a_config_that_is_missing(tmp_path: Path) -> None:
    result = dlm("train", tmp_path / "gone.yaml")
    assert result.exit_code == 2 and "no such config file" in result.stderr


@pytest.mark.parametrize(("seconds", "said"), [(12, "12 s"), (720, "12 min"), (6300, "1 h 45 min"), (7260, "2 h 01 min")])
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_validate_can_probe_for_controls_that_lose(tmp_path: Path) -> None:
    """No rule says that these contradict each other; the guide does."""
    text = "preset: {steps: 10}\ncontrols:\n  - tree: '(S (NP ? ?) (VP ? (NP (NP ? ? ?) (PP ? (NP ? ? ?)))) ?)'\n"
    fine = spec(tmp_path, text, "fine.yaml")
    lonely = spec(tmp_path, text + "  - infill: '[1] is . It is . It is . It is'\n", "lonely.yaml")
    raised = dlm("validate", fine, lonely, "--probe")
    assert raised.exit_code == 0 and "fine.yaml: ok; tree steered\n" in raised.output and "lonely.yaml: ok" in raised.output
    assert raised.output.count("warning") == 1
    assert "warning: tree loses in 4 of 4 texts: its guide saw it at p = " in raised.output


def test_explain_tells_and_draws(tmp_path: Path, tiny_folder: Path) -> None:
    file, picture = spec(tmp_path), tmp_path / "why.svg"
    raised = dlm("explain", file, "--model", tiny_folder, "--picture", picture)
    assert raised.exit_code == 0 and "keyword changed most words at t = " in raised.output
    assert "<svg" in picture.read_text()
    for wrong, why in ((tmp_path / "why.doc", "ends with .png, .svg, .pdf"), (tmp_path / "no" / "why.png", "no folder")):
        refused = dlm("explain", file, "--model", tiny_folder, "--picture", wrong)
        assert refused.exit_code == 2 and why in refused.output and "changed" not in refused.output
    paper = dlm("explain", spec(tmp_path, "preset: paper\n" + SPEC.replace("preset: {steps: 3}\n", "")), "--model", tiny_folder)
    assert paper.exit_code == 2 and "'paper' leaves no trace" in paper.output


def test_ls_shows_suites_and_generators() -> None:
    assert "smoke               dlm-control  A few targets of every kind" in dlm("ls", "suites").stdout
    assert {"diffusion", "fudge", "reject"} <= {line.split()[0] for line in dlm("ls", "generators").stdout.splitlines()}
