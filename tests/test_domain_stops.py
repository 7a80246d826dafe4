"""A domain in the making stops with a clear error, loses nothing, and goes on; and fields go all the way through it."""

from __future__ import annotations

import csv
import errno
import re
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import datasets
import pytest
from toy_corpus import toy_corpus
from typer.testing import CliRunner

from dlm_control import UsageError, cli, load
from dlm_control.controllers.fields.file import read_domain
from dlm_control.controllers.fields.lookup import domain_at
from dlm_control.controllers.semantic import Semantic
from dlm_control.eval.domain import make
from dlm_control.eval.domain.config import DomainConfig
from dlm_control.eval.domain.corpus import HELD_OUT, TRAIN, read_corpus
from dlm_control.eval.domain.make import make_domain
from dlm_control.eval.domain.stages import CorpusStage, Domain, Stage
from dlm_control.tasks.targets.corpora import rows

PAGE = (Path(__file__).parents[1] / "docs" / "own-corpus.md").read_text(encoding="utf-8")
BLOCKS = {name: text for name, text in re.findall(r"^```yaml file=(\S+)\n(.*?)^```", PAGE, re.M | re.S)}
MOODS = {"cheerful": "happy laughs sings", "calm": "quiet sleeps"}
PLACES = "river house garden hill market bridge forest".split()


def written(folder: Path, size: int) -> Path:
    """The page's `places.csv`, and its files beside it."""
    for name in ("fields.yaml", "places.yaml", "river.yaml"):
        (folder / name).write_text(BLOCKS[name])
    with open(folder / "places.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["sentence", "place", "mood"])
        for text in toy_corpus(size):
            words = text.lower().split()
            moods = [mood for mood, said in MOODS.items() if {*said.split()} & {*words}]
            places = [place for place in PLACES if place in words]
            table.writerow([text, places[0] if places else "", moods[0] if len(moods) == 1 else ""])
    return folder / "places.csv"


def config(folder: Path, **changes: Any) -> DomainConfig:
    given = {"corpus": str(folder / "places.csv"), "column": "sentence", "out": str(folder / "places"), "syntax": False}
    return DomainConfig(**{**given, "fields": str(folder / "fields.yaml"), "tune": False, **changes})


class Counted(Stage):
    """A stage that does nothing, or fails at first."""

    def __init__(self, name: str, failing: BaseException | None = None) -> None:
        self.name, self.failing, self.runs = name, failing, 0  # type: ignore[misc]

    def run(self, domain: Domain) -> str:
        self.runs += 1
        if self.failing is not None and self.runs == 1:
            raise self.failing
        return "done"


@pytest.mark.parametrize(
    ("failing", "raised", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), UsageError, "domain: two: the disk of .* is full; free some room"),
        (KeyboardInterrupt("by hand"), KeyboardInterrupt, "by hand"),
    ],
)
def test_a_stage_that_was_cut_off_is_all_that_is_done_again(
    failing: BaseException, raised: type[BaseException], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = [Counted("one"), Counted("two", failing), Counted("three")]
    monkeypatch.setattr(make, "stages", lambda config: stages)
    monkeypatch.setattr(make, "read_table", lambda domain: [])
    with pytest.raises(raised, match=message):
        make_domain(config(tmp_path), print)
    make_domain(config(tmp_path), print)
    assert [stage.runs for stage in stages] == [1, 2, 1]


def test_time_and_room_are_told_first_and_too_little_room_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make, "stages", lambda config: [Counted("model")])
    monkeypatch.setattr(make, "read_table", lambda domain: [])
    told: list[str] = []
    make_domain(config(tmp_path, minutes=30), told.append)
    assert re.search(r"model; about \d+ minutes, the evaluation not counted, and up to \d+ MB", told[0])
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(10**9, 10**9, 10**6))
    with pytest.raises(UsageError, match=r"has 1 MB of room; \d+ MB may be needed"):
        make_domain(config(tmp_path, out=str(tmp_path / "other")), print)


def test_what_is_not_asked_for_takes_no_time() -> None:
    whole = DomainConfig(corpus="x", out="y", minutes=100, fields="f")
    assert sum(whole.minutes_of(name) for name in ("model", "annotation", "structure guide", "teacher", "preset")) > 85
    bare = DomainConfig(corpus="x", out="y", minutes=100, syntax=False, tune=False, kind="masked-lm", fields="f")
    assert [name for name in ("annotation", "syntax guide", "semantic guide", "preset") if bare.asks(name)] == []
    assert bare.minutes_of("model") + bare.minutes_of("teacher") == pytest.approx(100)


def test_a_corpus_of_a_heading_alone_and_one_of_several_splits(tmp_path: Path) -> None:
    (tmp_path / "places.csv").write_text("sentence\n")
    with pytest.raises(UsageError, match=r"places\.csv: has no rows"):
        read_corpus(config(tmp_path, fields=None))
    texts = list(dict.fromkeys(toy_corpus(400)))[:200]
    parts = {name: datasets.Dataset.from_dict({"sentence": part}) for name, part in (("a", texts[:150]), ("b", texts[150:]))}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "saved"))
    found = read_corpus(config(tmp_path, fields=None, corpus=str(tmp_path / "saved")))
    assert sorted(row.text for row in (*found.train, *found.held_out)) == sorted(texts)


def test_columns_of_fields_become_meanings_and_the_domain_file_lies_beside_the_model(tmp_path: Path) -> None:
    written(tmp_path, 800)
    domain = Domain(config(tmp_path), tmp_path / "places", None)  # type: ignore[arg-type]
    domain.folder.mkdir()
    CorpusStage().run(domain)
    assert list(domain_at(tmp_path / "places").fields) == ["place", "mood"]
    found = [row for name in (TRAIN, HELD_OUT) for row in rows(tmp_path / "places" / "corpus" / name, ["ref", "mr"])]
    at_river = [row for row in found if "place[river]" in row["mr"]]
    assert at_river and all("river" in row["ref"] for row in at_river)


def test_mistakes_in_fields_come_before_any_training(tmp_path: Path) -> None:
    file = written(tmp_path, 800)
    content = file.read_text()
    file.write_text(content + "The dog sleeps .,sea,calm\nThe cat sleeps .,moon,\n")
    with pytest.raises(UsageError, match=r"(?s)place: unknown value 'moon' in 1 rows.*unknown value 'sea' in 1 rows"):
        read_corpus(config(tmp_path))
    file.write_text(content.replace("sentence,place,mood", "sentence,site,humour"))
    with pytest.raises(
        UsageError, match=r"no column of the fields place, mood, and no 'mr'; beside the text it has site, humour"
    ):
        read_corpus(config(tmp_path))
    with pytest.raises(UsageError, match=r"domain: fields: domain '.*absent.yaml': neither bundled nor a file"):
        read_corpus(config(tmp_path, fields=str(tmp_path / "absent.yaml")))
    file.write_text(content)
    (tmp_path / "fields.yaml").write_text("fields: {place: {values: [river, sea]}, mood: {values: [calm, cheerful]}}")
    with pytest.raises(UsageError, match="unknown value 'house'"):
        read_corpus(config(tmp_path))
    (tmp_path / "fields.yaml").write_text(BLOCKS["fields.yaml"].replace("[happy, laughs, sings]", "[zestful]"))
    domain = Domain(config(tmp_path), tmp_path / "places", None)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="cheerful: no wording is of the model's words, which lack zestful"):
        CorpusStage().run(domain)


def test_the_pages_fields_make_targets_of_its_corpus(tmp_path: Path) -> None:
    file = written(tmp_path, 800)
    assert DomainConfig.read(tmp_path / "places.yaml", {}).fields == "fields.yaml"
    assert list(read_domain(tmp_path / "fields.yaml").fields["mood"].values) == ["cheerful", "calm"]
    file.write_text(file.read_text().replace("sentence,", "ref,", 1))
    [line] = [line for line in PAGE.splitlines() if line.startswith("dlm targets make places/")]
    line = line.replace("places/corpus/devset.csv", str(file)).replace(
        "--domain places", f"--domain {tmp_path / 'fields.yaml'}"
    )
    done = CliRunner().invoke(cli.build(), line.replace("targets.jsonl", str(tmp_path / "t.jsonl")).split()[1:])
    assert done.exit_code == 0 and "20 targets" in done.output, done.output


@pytest.mark.slow
def test_from_a_csv_with_fields_to_a_model_that_says_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's own walk at the smallest budget, without the models of English."""
    monkeypatch.chdir(tmp_path)
    written(tmp_path, 1500)
    text = BLOCKS["places.yaml"].replace("minutes: 30", "minutes: 3\nsyntax: false\ntargets: 6")
    Path("places.yaml").write_text(text)
    done = CliRunner().invoke(cli.build(), ["domain", "make", "places.yaml"])
    assert done.exit_code == 0, done.output
    assert re.search(r"^\| semantic \| \d+ %", done.output, re.M), done.output
    lm = load("places")
    lm.save_pretrained("copy")
    kept = {"fields.yaml", "guides", "teacher", "README.md", *(["preset.yaml"] if Path("places/preset.yaml").exists() else [])}
    assert kept <= {file.name for file in Path("copy").iterdir()}
    for guide in ("words", "classifier"):
        samples = load("copy").generate([Semantic("where", "river", guide=guide)], 8, seed=0)
        assert sum(sample.passed for sample in samples) >= (7 if guide == "words" else 3), guide
    done = CliRunner().invoke(cli.build(), ["generate", "river.yaml"])
    assert done.exit_code == 0, done.output
