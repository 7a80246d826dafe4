"""A corpus of one's own becomes a domain: what is read, what is refused, and (slowly) the whole way."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from toy_corpus import toy_corpus
from typer.testing import CliRunner

from dlm_control import UsageError, cli, load
from dlm_control.eval.domain.config import DomainConfig
from dlm_control.eval.domain.corpus import HELD_OUT, TRAIN, read_corpus
from dlm_control.eval.domain.make import make_domain
from dlm_control.tasks.targets.corpora import refs

TEXTS = list(dict.fromkeys(toy_corpus(400)))[:200]


def config(tmp_path: Path, **changes: Any) -> DomainConfig:
    given: dict[str, Any] = {"corpus": str(tmp_path / "own.txt"), "out": str(tmp_path / "mine"), "held_out": 0.1}
    return DomainConfig(**{**given, **changes})


def written(folder: Path, given: dict[str, Any]) -> Path:
    (folder / "domain.yaml").write_text(json.dumps(given))
    return folder / "domain.yaml"


def lines(tmp_path: Path, texts: list[str], name: str = "own.txt") -> Path:
    (tmp_path / name).write_text("\n".join(texts) + "\n", encoding="utf-8")
    return tmp_path / name


def saved(kind: str, tmp_path: Path, texts: list[str]) -> Path:
    """The texts in a file of that kind, in a column `said`."""
    data, file = datasets.Dataset.from_dict({"number": range(len(texts)), "said": texts}), tmp_path / f"own.{kind}"
    if kind == "csv":
        data.to_csv(str(file), index=False)
    elif kind == "tsv":
        file.write_text("number\tsaid\n" + "".join(f"{i}\t{text}\n" for i, text in enumerate(texts)))
    elif kind == "jsonl":
        data.to_json(str(file))
    elif kind == "json":
        file.write_text(json.dumps([{"said": text} for text in texts]))
    elif kind == "parquet":
        data.to_parquet(str(file))
    else:
        data.save_to_disk(str(file))
    return file


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json", "parquet", "folder"])
def test_texts_come_from_every_kind_of_file(tmp_path: Path, kind: str) -> None:
    found = read_corpus(config(tmp_path, corpus=str(saved(kind, tmp_path, TEXTS)), column="said"))
    assert sorted(row.text for row in [*found.train, *found.held_out]) == sorted(TEXTS)
    assert 5 <= len(found.held_out) <= 40 and not set(found.train) & set(found.held_out)


def test_several_files_are_one_corpus_whose_parting_does_not_depend_on_their_order(tmp_path: Path) -> None:
    first, second = lines(tmp_path, TEXTS[:90], "a.txt"), lines(tmp_path, TEXTS[90:], "b.txt")
    one = read_corpus(config(tmp_path, corpus=[str(first), str(second)]))
    other = read_corpus(config(tmp_path, corpus=[str(second), str(first)]))
    assert set(one.held_out) == set(other.held_out) and sorted(one.train) == sorted(other.train)
    assert set(one.held_out) != set(read_corpus(config(tmp_path, corpus=[str(first), str(second)], seed=1)).held_out)


def test_a_repeated_text_stays_on_its_side(tmp_path: Path) -> None:
    lines(tmp_path, TEXTS * 3)
    found = read_corpus(config(tmp_path))
    assert found.repeated == 2 * len(TEXTS)
    assert len(found.train) == 3 * len(set(found.train)) and not set(found.train) & set(found.held_out)


def test_the_written_corpus_is_what_trainings_read(tmp_path: Path) -> None:
    found = read_corpus(config(tmp_path, corpus=str(lines(tmp_path, ['He said "no", twice .', *TEXTS]))))
    found.write(tmp_path)
    assert refs(tmp_path / TRAIN) == [row.text for row in found.train]
    assert refs(tmp_path / HELD_OUT) == [row.text for row in found.held_out]


def test_rows_that_do_not_fit_stop_with_their_places_or_are_skipped_and_counted(tmp_path: Path) -> None:
    file = saved("csv", tmp_path, [*TEXTS, "word " * 61, " ", "", "many " * 80])
    asked = config(tmp_path, corpus=str(file), column="said")
    with pytest.raises(UsageError) as caught:
        read_corpus(asked)
    report = str(caught.value)
    assert re.search(rf"2 of 204 rows have more than 60 words \(.*own.csv:{len(TEXTS) + 2}: 'word word", report)
    assert re.search(r"2 of 204 rows hold (no words|nothing)", report) or (
        "hold no words" in report and "hold nothing" in report
    )
    found = read_corpus(replace(asked, unfit="skip"))
    assert sum(found.skipped.values()) == 4 and len(found.train) + len(found.held_out) == len(TEXTS)


BAD: dict[str, tuple[bytes | None, dict[str, Any], str]] = {
    "missing": (None, {}, r"own.txt: no such file"),
    "empty": (b"  \n", {}, r"own.txt: is empty"),
    "one sentence": (b"The dog sleeps .\n" * 300, {}, "has 1 distinct texts that fit; a model needs 100"),
    "other encoding": ("caf\u00e9 noir\n".encode("latin-1") * 200, {}, r"own.txt:1: is not UTF-8 \(byte 0xe9\)"),
    "another script": (
        "".join(f"слово{chr(0x430 + i % 30)}{chr(0x430 + i // 30)} идёт домой .\n" for i in range(200)).encode(),
        {}, "200 of 200 texts are not in Latin letters.*syntax: false",
    ),
    "unknown kind": (b"x", {"corpus": "own.docx"}, "unknown kind of file '.docx'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_corpus_that_cannot_be_used_says_why(tmp_path: Path, case: str) -> None:
    content, changes, message = BAD[case]
    name = changes.get("corpus", "own.txt")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_corpus(config(tmp_path, corpus=str(tmp_path / name)))


def test_a_wrong_column_is_named_with_those_there_are(tmp_path: Path) -> None:
    file = saved("csv", tmp_path, TEXTS)
    with pytest.raises(UsageError, match=r"no column 'sayd'.*'said'.*it has number, said; name it with column:"):
        read_corpus(config(tmp_path, corpus=str(file), column="sayd"))


def test_broken_files_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "own.parquet").write_bytes(b"PAR1 is not enough")
    (tmp_path / "own.jsonl").write_text('{"said": "a"}\n{"said": ')
    (tmp_path / "folder").mkdir()
    for name in ("own.parquet", "own.jsonl", "folder"):
        with pytest.raises(UsageError, match=f"{name}: (cannot be read as|is no folder that)"):
            read_corpus(config(tmp_path, corpus=str(tmp_path / name)))


def test_mistakes_of_a_config_come_in_one_report(tmp_path: Path) -> None:
    file = written(
        tmp_path, {"corpus": [], "out": "mine", "minutes": 0, "kindd": "masked-lm", "held_out": 0.9, "unfit": "drop"}
    )
    with pytest.raises(UsageError) as caught:
        DomainConfig.read(file, {})
    for place in ("corpus", "minutes", "kindd", "held_out", "unfit"):
        assert place in str(caught.value)


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    lines(tmp_path, TEXTS)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds other files; give a new or empty folder"):
        make_domain(config(tmp_path), print)
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_the_page_shows_a_config_that_is_one() -> None:
    page = (Path(__file__).parents[1] / "docs" / "own-corpus.md").read_text()
    [shown] = re.findall(r"```yaml file=reviews.yaml\n(.*?)```", page, re.DOTALL)
    assert DomainConfig(**yaml.safe_load(shown)).minutes == 30


@pytest.mark.slow
def test_from_a_csv_to_a_folder_that_obeys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's own walk; killed after each stage it goes on, and another config is refused."""
    monkeypatch.chdir(tmp_path)
    with open("reviews.csv", "w", newline="") as file:
        csv.writer(file).writerows([["id", "sentence"], *([i, text] for i, text in enumerate(toy_corpus(1500)))])
    asked = {"corpus": "reviews.csv", "column": "sentence", "out": "mine", "minutes": 3, "targets": 4}
    made = written(tmp_path, asked)

    class KilledError(Exception):
        pass

    def killing(line: str) -> None:
        if line.startswith("model:"):
            raise KilledError

    with pytest.raises(KilledError):
        make_domain(DomainConfig.read(made, {}), killing)
    weights = Path("mine/model.safetensors").read_bytes()
    done = CliRunner().invoke(cli.build(), ["domain", "make", str(made)])
    assert done.exit_code == 0, done.output
    assert Path("mine/model.safetensors").read_bytes() == weights  # not trained again
    for row in ("human, held out", "without control", "length", "pos", "tree", "span", "keyword", "infill"):
        assert f"| {row} |" in done.output
    assert "| length | 100 % |" in done.output
    assert load("mine").generate([], 1, seed=0)[0].text
    assert "Measured on held-out texts" in Path("mine/README.md").read_text()
    with pytest.raises(UsageError, match="holds a domain of another minutes"):
        make_domain(DomainConfig.read(made, {"minutes": 5}), print)
