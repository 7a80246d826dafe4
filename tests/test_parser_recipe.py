"""How the bundled parser is made: treebanks in one convention, the loss, resuming, trees of own making."""

from __future__ import annotations

import importlib
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from nltk import Tree

from dlm_control.controllers.linguistics.parser_bundle import NAME, described, parser_folder
from dlm_control.controllers.linguistics.trees import LABELS
from dlm_control.support.hub import bundled

TOOLS = str(Path(__file__).resolve().parent.parent / "tools")
PUB = "(TOP (S (NP (DT The) (NN pub)) (VP (VBZ is) (ADJP (NN family) (HYPH -) (JJ friendly))) (. .)))"
SHOP = "(TOP (S (NP (PRP It)) (VP (VBZ is) (NP (DT a) (JJ cheap) (NN coffee) (NN shop))) (. .)))"
NOUN = "(TOP (NP (DT A) (ADJP (NN family) (HYPH -) (JJ friendly)) (NN pub)))"


@pytest.fixture(scope="module")
def tools() -> Iterator[Any]:
    """The modules in tools/, which the scripts there import."""
    sys.path.insert(0, TOOLS)
    files = {"banks": "treebanks", "own": "self_training", "training": "parser_training"}
    yield type("Tools", (), {name: importlib.import_module(file) for name, file in files.items()})
    sys.path.remove(TOOLS)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny encoder with random weights, and the tokenizer of the bundled parser."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    folder = str(tmp_path_factory.mktemp("encoder"))
    AutoTokenizer.from_pretrained(parser_folder()).save_pretrained(folder)
    torch.manual_seed(0)
    BertModel(BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)).save_pretrained(
        folder
    )
    return folder


def trees(*texts: str) -> list[Tree]:
    return [Tree.fromstring(text) for text in texts]


def flat(tree: Tree | None) -> str:
    return " ".join(str(tree).split())


def test_treebanks_come_to_one_convention(tools: Any) -> None:
    raw = "(TOP (S (NP (NML (NN price) (NN range)) (NN x)) (SBAR (NP (WDT that)) (S (S (VP (VBZ is)))))))"
    assert flat(tools.banks.convention(Tree.fromstring(raw))) == (
        "(TOP (S (NP (NN price) (NN range) (NN x)) (SBAR (WHNP (WDT that)) (S (VP (VBZ is))))))"
    )
    pied = "(SBAR (PP (IN of) (NP (WDT which))) (S (NP (PRP we))))"
    assert flat(tools.banks.convention(Tree("TOP", trees(pied)))) == (
        "(TOP (SBAR (WHPP (IN of) (WHNP (WDT which))) (S (NP (PRP we)))))"
    )


def test_hyphens_are_joined_as_the_penn_treebank_does(tools: Any) -> None:
    join = tools.banks.join_hyphens
    assert flat(join(Tree.fromstring(NOUN))) == "(TOP (NP (DT A) (JJ family-friendly) (NN pub)))"
    assert "(ADJP (JJ family-friendly))" in flat(join(Tree.fromstring(PUB)))
    year = "(NP (DT a) (CD 5) (HYPH -) (NN year) (HYPH -) (JJ old) (NN pub))"
    assert flat(join(Tree.fromstring(year))) == "(NP (DT a) (JJ 5-year-old) (NN pub))"
    names = "(NP (DT the) (NNP Miller) (HYPH -) (NNP Levine) (NN book))"
    assert flat(join(Tree.fromstring(names))) == "(NP (DT the) (NNP Miller-Levine) (NN book))"


def test_held_out_sentences_are_not_trained_on(tools: Any, tmp_path: Path) -> None:
    lines = [f"(TOP (NP (NN pub{i})))" for i in range(1000)]
    (tmp_path / "masc1_written_x.mrg").write_text("\n".join(lines))
    (tmp_path / "gum_y.mrg").write_text("\n".join([*lines, PUB, PUB]))
    parts = tools.banks.prepared(tmp_path)
    keys = {name: [tools.banks.key(tree) for tree, _ in part] for name, part in parts.items()}
    assert {name: len(part) for name, part in keys.items()} == {"train": 1000 - 450 + 1, "dev": 150, "test": 300}
    assert not set(keys["train"]) & {*keys["dev"], *keys["test"]}
    assert keys == {name: [tools.banks.key(tree) for tree, _ in part] for name, part in tools.banks.prepared(tmp_path).items()}
    (tmp_path / "masc1_written_x.mrg").unlink()
    with pytest.raises(FileNotFoundError, match=r"no masc1_written\*\.mrg"):
        tools.banks.prepared(tmp_path)


def test_the_loss_is_benepars(tools: Any, encoder: str) -> None:
    taught = trees(PUB, SHOP, NOUN)
    parser = tools.training.new_parser(taught, encoder).eval()
    examples = [tools.training.example(tree) for tree in taught]
    words = sum(len(each.words) for each in examples)
    ((_, batch),) = parser.encode_and_collate_subbatches(examples, 1000)
    batch["batch_size"] = words / 20
    expected = torch.autograd.grad(parser.compute_loss(batch), list(parser.f_label.parameters()))
    loss = tools.training.loss_of(parser, examples)
    assert loss.item() == pytest.approx(parser.compute_loss(batch).item(), rel=1e-5)
    for ours, theirs in zip(torch.autograd.grad(loss, list(parser.f_label.parameters())), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    blind = [tools.training.example(tree, blind=True) for tree in taught]
    found = tools.training.trees_of(parser, [each.words for each in examples])
    assert [flat(tree) for tree in found] == [flat(tree) for tree in parser.parse(blind)]


def test_an_interrupted_round_ends_as_an_uninterrupted_one(tools: Any, encoder: str, tmp_path: Path) -> None:
    taught, plan = trees(*[PUB, SHOP, NOUN] * 3), tools.training.Plan(epochs=3)

    def trained(name: str, minutes: float) -> tuple[Any, int]:
        for sitting in range(1, 9):
            torch.manual_seed(0)
            parser = tools.training.new_parser(taught, encoder)
            torch.manual_seed(sitting)
            if tools.training.train(parser, taught, plan, tmp_path / name, minutes):
                return parser, sitting
        raise AssertionError("never ends")

    (whole, one), (resumed, several) = trained("whole", 9.0), trained("resumed", 0.0)
    assert one == 1 and several > 1
    for (name, ours), theirs in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name


def test_an_exported_parser_gives_no_tag_that_controls_do_not_know(tools: Any, encoder: str, tmp_path: Path) -> None:
    from benepar.parse_chart import ChartParser

    taught = trees(PUB.replace("DT", "GW"))
    parser = tools.training.new_parser(taught, encoder).eval()
    parser.f_tag[3].bias.data[parser.tag_vocab["GW"]] = 100.0
    assert "(GW The)" in flat(tools.training.trees_of(parser, [["The"]])[0])
    tools.training.export(parser, tmp_path)
    again = ChartParser.from_trained(str(tmp_path)).eval()
    assert "GW" not in flat(tools.training.trees_of(again, [["The"]])[0])


def test_trees_of_own_making_are_those_all_parsers_agree_on(tools: Any) -> None:
    table = {"London": "(TOP (S (NP (NNP London)) (VP (VBZ is))))", "It": "(TOP (S (NP (PRP It)) (VP (VBZ is))))"}
    other = {"London": table["London"].replace("NNP", "NN"), "It": "(TOP (NP (PRP It) (VP (VBZ is))))"}

    def parse(texts: Sequence[Sequence[str]]) -> list[Tree]:
        return [Tree.fromstring(table[words[0]]) for words in texts]

    def parse_otherwise(texts: Sequence[Sequence[str]]) -> list[Tree]:
        return [Tree.fromstring(other[words[0]]) for words in texts]

    found = [tools.own.Sentence(("London", "is"), {"London": ("The", "Mill")}), tools.own.Sentence(("It", "is"), {})]
    assert [flat(tree) for tree in tools.own.sure_trees(found, parse, [parse_otherwise])] == [
        "(TOP (S (NP (DT The) (NNP Mill)) (VP (VBZ is))))"
    ]
    assert tools.own.with_names(trees("(NP (NN shop) (NNP London))")[0], {"London": ("The", "Mill")}) is None


def test_restaurant_names_give_way_to_stand_ins(tools: Any, tmp_path: Path) -> None:
    rows = ['"name[The Mill], near[Café Rouge]",The Mill is near Café Rouge. It is cheap.']
    rows += ['"name[Zizzi], near[Strada]",Zizzi is near Strada.']
    (tmp_path / "e2e.csv").write_text("\n".join(["mr,ref", *rows]), encoding="utf-8")
    found = sorted(tools.own.restaurant_sentences(tmp_path / "e2e.csv", 9, seed=1))
    assert found == [
        (("It", "is", "cheap", "."), {}),
        (("London", "is", "near", "Paris", "."), {"London": ("The", "Mill"), "Paris": ("Café", "Rouge")}),
    ]


def test_an_epoch_varies_the_same_way_each_time(tools: Any) -> None:
    taught = trees(PUB, SHOP, NOUN)
    first, second = (tools.training.batches(taught, random.Random("1 0")) for _ in range(2))
    assert [[flat(tree) for tree in batch] for batch in first] == [[flat(tree) for tree in batch] for batch in second]


def test_the_bundled_parser_is_small_and_gives_labels_that_controls_know() -> None:
    folder = bundled()[NAME]
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 25e6
    assert set(described(folder).split(", ")) <= set(LABELS)
