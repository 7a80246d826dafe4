"""Templates and tables: what a row becomes, and what is said of faulty ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from dlm_control.controllers.keyword import Keyword
from dlm_control.controllers.length import Length
from dlm_control.pipeline import LanguageModel
from dlm_control.sampling.batch import RowRequest
from dlm_control.support.errors import ErrorCollector, UsageError
from dlm_control.tasks.batch.faults import RowFaults
from dlm_control.tasks.batch.requests import requests_of
from dlm_control.tasks.batch.table import Row, read_rows
from dlm_control.tasks.batch.template import Template, read_template

TEMPLATE = "preset: {steps: 3}\ncontrols:\n  - length: ${words}\n  - keyword:\n      words: ${place}\n      weight: 2\n"
ROW = {"words": 9, "place": "riverside"}


def template(folder: Path, text: str = TEMPLATE, **overrides: Any) -> Template:
    file = folder / "template.yaml"
    file.write_text(text)
    return read_template(file, overrides)


def table(folder: Path, *rows: object) -> Path:
    file = folder / "rows.jsonl"
    file.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return file


def asked(folder: Path, lm: LanguageModel, *rows: object, text: str = TEMPLATE, keep: Sequence[str] = ()) -> list[RowRequest]:
    faults = RowFaults("rows.jsonl")
    found = requests_of(template(folder, text), read_rows(table(folder, *rows)), keep, lm.backbone, faults)
    faults.raise_if_any(rows=True)
    return found


def told(folder: Path, lm: LanguageModel, *rows: object, text: str = TEMPLATE, keep: Sequence[str] = ()) -> list[str]:
    with pytest.raises(UsageError) as caught:
        asked(folder, lm, *rows, text=text, keep=keep)
    return [line.removeprefix("  - ") for line in str(caught.value).splitlines()]


def test_a_variable_keeps_its_type_and_becomes_text_within_a_text(tmp_path: Path) -> None:
    given = ("length: ${n}", 'infill: "The ${name} $${n} has [${n}] ."', 'span: ["${a}", 2, NP]', "pattern: ${p}")
    text = "controls:\n" + "".join(f"  - {each}\n" for each in given)
    problems = ErrorCollector("row")
    filled = template(tmp_path, text).filled({"n": 7, "name": "Golden Fox", "a": 0, "p": ["* a *", "* b *"]}, problems)
    length, infill, span, pattern = (control.controller for _, control in filled.controls)
    assert not problems.found
    assert (vars(length)["at_least"], vars(infill)["template"]) == (7, "The Golden Fox ${n} has [7] .")
    assert (vars(span)["spans"], vars(pattern)["match"]) == ([[0, 2, "NP"]], ["* a *", "* b *"])


def test_a_row_gives_the_number_of_its_texts_their_seed_or_all_its_controls(tmp_path: Path, tiny_lm: LanguageModel) -> None:
    text = "controls: ${controls}\nnum_samples: ${n}\nseed: ${seed}\n"
    rows = [{"controls": [{"length": 9}], "n": n, "seed": seed} for n, seed in ((1, 0), (3, 0), (3, 5))]
    one, three, other = (row.request for row in asked(tmp_path, tiny_lm, *rows, text=text))
    assert one is not None and three is not None and other is not None
    assert [len(each.indices) for each in (one, three, other)] == [1, 3, 3]
    assert three.seed != other.seed


def test_one_report_names_rows_variables_and_columns(tmp_path: Path, tiny_lm: LanguageModel) -> None:
    rows = [
        ROW,
        {**ROW, "words": "x"},
        {"words": 9, "plaice": "pub"},
        "nothing",
        {**ROW, "place": "Qwertz"},
        {**ROW, "words": 40},
        {**ROW, "words": "x"},
        '{"words": 9, "words": 8}',
        {**ROW, "place": ["pub"]},
    ]
    head, *found = told(tmp_path, tiny_lm, *rows)
    assert head == "rows.jsonl: 8 problems"
    assert found[:5] == [
        "column plaice (row 3): the template has no ${plaice}, did you mean 'place'?; --keep plaice copies it to the output",
        "rows 2, 7: ${words} (controls[0].words): expected a whole number above 0, got 'x'",
        "row 3: ${place}: not given",
        "row 4: not JSON: Expecting value: line 1 column 1 (char 0)",
        found[4],
    ]
    assert found[4].startswith("row 5: ${place} (controls[1] (keyword)): the word 'Qwertz' is not among")
    assert found[5].startswith("row 6: ${words}, ${place} (controls): no text can obey them: length needs 40 words")
    assert found[6] == "row 8: words is given twice"
    assert found[7].startswith("row 9: ${place} (controls[1].words): expected at least one word, got ['pub']")


def test_a_column_that_no_row_has_and_one_that_is_kept(tmp_path: Path, tiny_lm: LanguageModel) -> None:
    rows = [{"words": 9, "places": "pub", "id": 1}]
    _, *found = told(tmp_path, tiny_lm, *rows, keep=["id", "ident"])
    assert found == [
        "${place}: no row gives it, did you mean 'places'?; the columns are words, places, id",
        "--keep ident: no such column; the columns are words, places, id",
        "column places (row 1): the template has no ${places}, did you mean 'place'?; --keep places copies it to the output",
        "row 1: ${place}: not given",
    ]
    assert asked(tmp_path, tiny_lm, {**ROW, "id": 1}, keep=["id"])[0].error is None


def test_a_fault_of_the_template_is_told_once_with_its_line(tmp_path: Path, tiny_lm: LanguageModel) -> None:
    text = TEMPLATE + "  - keyword: Qwertz\n"
    head, found = told(tmp_path, tiny_lm, *[ROW] * 3, text=text)
    assert head == "rows.jsonl: 1 problem"
    assert "template.yaml:7: controls[2] (keyword#2): the word 'Qwertz' is not among" in found


def test_a_long_report_says_how_many_more_there_are(tmp_path: Path, tiny_lm: LanguageModel) -> None:
    report = told(tmp_path, tiny_lm, *[{**ROW, "words": -n} for n in range(60)])
    assert report[0] == "rows.jsonl: 60 problems; --bad-rows skip goes on without faulty rows"
    assert report[-1].strip() == "… and 10 more like these; correct them first"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "controls: [{length: 9}]\n",
            "no variable, such as ${words}, in controls, num_samples, seed; without one, give no",
        ),
        ("model: ${m}\n" + TEMPLATE, "model: '${m}': variables stand in controls, num_samples, seed; all else is the same"),
        ("on_error: skip\n" + TEMPLATE, "on_error: has no place where rows fill a template; say --bad-rows skip"),
        (
            "controls:\n  - keyword: {words: ${w}}\n",
            'braces and brackets a variable is quoted, as in {words: "${words}"}',
        ),
        ("controls:\n  - length: ${}\n", "controls[0].length: '${}': a variable without a name"),
        ("stepps: 3\n" + TEMPLATE, "template.yaml:1: stepps: unknown key; there are: model"),
        ('controls:\n  - "${kind}": 3\n', "variables stand in values, not in keys"),
    ],
)
def test_templates_that_cannot_be(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        template(tmp_path, text)
    assert message in str(caught.value)


def test_a_value_from_the_command_line_replaces_the_variable(tmp_path: Path) -> None:
    assert template(tmp_path, "seed: ${seed}\n" + TEMPLATE, seed=3).names == ["words", "place"]


def test_every_format_gives_the_same_rows(tmp_path: Path) -> None:
    values: list[dict[str, Any]] = [
        {"n": 9, "w": "river, side", "spans": [0, 2], "open": True},
        {"n": None, "w": "no", "spans": [1], "open": False},
    ]
    Dataset.from_list(values).to_parquet(tmp_path / "rows.parquet")
    Dataset.from_list(values).save_to_disk(tmp_path / "folder")
    (tmp_path / "rows.csv").write_text('\ufeffn,w,spans,open\n9,"river, side","[0, 2]",true\n,no,[1],false\n')
    expected = [Row(1, values[0]), Row(2, values[1])]
    found = [read_rows(tmp_path / name) for name in ("rows.csv", "rows.parquet", "folder")]
    assert [*found, read_rows(table(tmp_path, *values))] == [expected] * 4


def test_a_csv_row_of_another_width_is_a_bad_row(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text('a,b\n1,"two\nlines"\n3\n4,NaN\n')
    assert read_rows(tmp_path / "rows.csv") == [
        Row(1, {"a": 1, "b": "two\nlines"}), Row(2, {}, "1 cells, expected 2"), Row(3, {"a": 4, "b": "NaN"}),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.txt", "x", "expected .jsonl, .csv, .parquet, or a folder that `datasets` saved"),
        ("rows.csv", "a,a\n1,2\n", "the first line names the columns; 'a' is empty or there twice"),
        ("rows.csv", "a\n", "no rows"),
        ("rows.csv", 'a\n"x\n', "not CSV: unexpected end of data"),
        ("rows.parquet", "x", "not parquet"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=message):
        read_rows(tmp_path / name)
    with pytest.raises(UsageError, match="no such file"):
        read_rows(tmp_path / "gone.jsonl")


def test_splits_are_named(tmp_path: Path) -> None:
    DatasetDict({"dev": Dataset.from_list([{"a": 1}])}).save_to_disk(tmp_path / "all")
    with pytest.raises(UsageError, match=r"has the splits dev; give one, such as .*all/dev"):
        read_rows(tmp_path / "all")


def test_the_controls_of_a_row_are_those_of_its_values(tmp_path: Path, tiny_lm: LanguageModel) -> None:
    [row] = asked(tmp_path, tiny_lm, ROW)
    assert row.request is not None
    length, keyword = row.request.controls
    assert isinstance(vars(length)["controller"], Length) and isinstance(vars(keyword)["controller"], Keyword)
    assert (vars(keyword)["weight"], vars(vars(keyword)["controller"])["words"]) == (2, "riverside")
