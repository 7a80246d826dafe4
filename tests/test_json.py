"""JSON by a schema over tokens: the automaton against `re` and enumeration, texts, and what is refused."""

from __future__ import annotations

import itertools
import json
import math
import random
import re
import sys
from typing import Any

import outside_models as outside
import pytest
import torch
from jsonschema import Draft202012Validator
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from dlm_control import LanguageModel, UsageError, check_controller, steer
from dlm_control.control.plan import Language
from dlm_control.control.regular import RegularEvent
from dlm_control.controllers.json_schemas import regex_of
from dlm_control.controllers.json_text import Json
from dlm_control.controllers.keyword import Keyword
from dlm_control.controllers.length import Length
from dlm_control.outside.backbone import OutsideBackbone
from dlm_control.outside.tokens import Tokens
from dlm_control.outside.whole_words import WholeWords
from dlm_control.text.characters import CharacterAutomaton

PUB: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "stars": {"enum": [1, 2, 3]}, "cheap": {"type": "boolean"}},
    "required": ["name", "stars"],
    "additionalProperties": False,
}
SCHEMAS: list[dict[str, Any]] = [
    PUB,
    {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3, "description": "some numbers"},
    {"type": "array", "items": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/day"}]},
     "$defs": {"day": {"type": "string", "format": "date"}}},
    {"type": ["number", "boolean"]},
    {"type": "object", "additionalProperties": {"type": "string", "minLength": 2}},
    {"const": {"a": [1, "é\n"], "b": None}},
    {"type": "string", "enum": ['say "no"', "[a-z]*", "\\"]},
    {"type": "object", "properties": {name: {"type": "string", "format": name} for name in ("uuid", "date-time")}},
    {"anyOf": [{"type": "object", "properties": {"é?": {"type": "null"}}}, {"type": "array", "items": {"type": "null"}}]},
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return outside.byte_pairs()


@pytest.fixture(scope="module")
def lm(tokenizer: PreTrainedTokenizerFast) -> LanguageModel:
    return LanguageModel(OutsideBackbone(outside.masked(len(tokenizer)), Tokens(tokenizer), 36))


# --- the automaton ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("regex", ["(ab|ba)*c?", "[^a-b]{1,2}a+", "a(b|é){0,2}", "((a|ab)(c|bc))+", "[é-ü]|a?b?", "x"])
def test_tokens_that_spell_a_match_in_any_way_are_accepted(regex: str) -> None:
    tokens = ["a", "ab", "b", "ba", None, "é", "cé", "c"]
    classes, automaton = CharacterAutomaton.read(regex, "").over_tokens(tokens)
    used = set()
    for length in range(5):
        for text in itertools.product(range(len(tokens)), repeat=length):
            spelled = [tokens[i] or "\n" for i in text]
            expected = re.fullmatch(regex, "".join(spelled)) is not None and "\n" not in spelled
            read = [classes[i] for i in text]
            assert (-1 not in read and automaton.ends(read)[-1]) == expected, spelled
            used |= {*text} if expected else set()
    assert used <= {i for i, word_class in enumerate(classes) if word_class >= 0}


def test_probabilities_are_those_of_enumeration() -> None:
    schema = {"type": "array", "items": {"enum": [1, 11, None]}, "minItems": 1}
    tokens = ["[", "]", "1", "null", ",", "1,", "[1", ", ", "x", "11]"]
    characters = CharacterAutomaton.read(regex_of(schema), "")
    event = RegularEvent(Language(*characters.over_tokens(tokens)), torch.device("cpu"))
    log_probs = (2 * torch.randn(1, 6, len(tokens), generator=torch.Generator().manual_seed(0))).log_softmax(-1)
    total, posterior = 0.0, torch.zeros(5, len(tokens))
    for text in itertools.product(range(len(tokens)), repeat=5):
        if characters.accepts("".join(tokens[i] for i in text)):
            probability = math.exp(sum(float(log_probs[0, at, i]) for at, i in enumerate(text)))
            total += probability
            posterior[range(5), text] += probability
    found, ratio = event.posterior(log_probs, torch.tensor([5]))
    assert total > 0 and float(found[0]) == pytest.approx(math.log(total), abs=1e-4)
    torch.testing.assert_close((log_probs.exp() * ratio)[0, :5], posterior / total, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: next(iter(schema.values())) if schema else "")
def test_what_the_automaton_accepts_is_valid(schema: dict[str, Any]) -> None:
    """Random walks to an end."""
    characters, rng = CharacterAutomaton.read(regex_of(schema), ""), random.Random(0)
    automaton, validator = characters.automaton, Draft202012Validator(schema)
    for _ in range(20):
        state, text = 0, ""
        while not (automaton.accepting[state] and (rng.random() < 0.3 or len(text) > 80)):
            ways = [i for i, c in enumerate(characters.classes) if automaton.alive[automaton.steps[state, c]]]
            if not ways:
                break
            way = rng.choice(ways)
            ends = [*characters.starts[1:], 0x10000]
            code = rng.randrange(characters.starts[way], min(ends[way], characters.starts[way] + 200))
            state, text = int(automaton.steps[state, characters.classes[way]]), text + chr(code)
        assert characters.accepts(text)
        validator.validate(json.loads(text))


# --- texts --------------------------------------------------------------------------------------------------------------------


def test_every_text_parses_and_is_valid(lm: LanguageModel) -> None:
    samples = lm.generate([Json(PUB)], 50, seed=1, steps=36, candidates=1)
    assert all(sample.passed for sample in samples)
    found = [json.loads(sample.text) for sample in samples]
    for each in found:
        Draft202012Validator(PUB).validate(each)
    assert {each["stars"] for each in found} == {1, 2, 3} and len({each["name"] for each in found}) > 25


def test_a_sampler_from_outside_writes_it(tokenizer: PreTrainedTokenizerFast) -> None:
    network = outside.masked(len(tokenizer))
    model = steer(outside.Shifted(network), Tokens(tokenizer), [Json(PUB)], gen_length=28, prompt_length=2, shifted=True)
    prompt = tokenizer("the pub", add_special_tokens=False)["input_ids"][:2]
    tokens = torch.tensor([[*prompt, *[tokenizer.mask_token_id] * 28]] * 3)
    assert tokenizer.mask_token_id is not None
    torch.manual_seed(0)
    written = outside.dream_loop(model, tokens, tokenizer.mask_token_id, lambda step, tokens, logits: logits)
    for row in written[:, 2:]:
        Draft202012Validator(PUB).validate(json.loads(str(tokenizer.decode(row, skip_special_tokens=True))))


def test_the_check_names_the_first_fault() -> None:
    control = Json(PUB)
    assert control.check('{"stars": 2, "name": "Mill"}').passed
    assert control.check('{"name": "Mill", "stars": 4}') == (0.5, "4 is not one of [1, 2, 3]")
    assert control.check('{"name": ').score == 0


def test_tokens_spell_what_the_tokenizer_decodes(tokenizer: PreTrainedTokenizerFast) -> None:
    for each in (tokenizer, outside.sentence_pieces()):
        tokens = Tokens(each)
        text = "The pub near the riverside, it's 5 out of 5."
        ids = torch.tensor([each(text, add_special_tokens=False)["input_ids"]])
        spelled = tokens.words.convert_ids_to_tokens(tokens.word_ids(ids)[0].tolist())
        assert tokens.words.join(spelled).lstrip() == text and max(map(len, spelled)) > 2
        assert tokens.words.join(tokens.words.words(text)) == text
    suffixed = Tokenizer(models.WordLevel({"a": 0, "b</w>": 1, "c</w>": 2, "<eos>": 3}, unk_token="a"))
    suffixed.decoder = decoders.BPEDecoder(suffix="</w>")
    with pytest.raises(UsageError, match="not what its tokens spell one by one; Tokens needs"):
        Tokens(PreTrainedTokenizerFast(tokenizer_object=suffixed, eos_token="<eos>"))


# --- faults -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": "strong"}, "no valid JSON schema: 'strong' is not valid"),
        ({}, "#: expected an object with one of type, enum"),
        ({"type": "integer", "minimum": 1}, "#/minimum: not supported beside type 'integer'"),
        ({"type": "string", "pattern": "a*"}, "#/pattern: not supported beside type 'string'; there may be: format, max"),
        ({"allOf": [{"type": "null"}]}, "#: expected an object with one of type"),
        ({"enum": [1], "minimum": 0}, "#/minimum: not supported beside enum"),
        ({"type": "string", "enum": ["a", 1]}, "#: the value 1 is not of type 'string'"),
        ({"type": "array"}, "#: an array of anything; give items"),
        ({"type": "object"}, "#/additionalProperties: expected an object with one of type.*got True"),
        ({"type": ["object", "null"]}, "#/type: object among several types; write anyOf"),
        ({"type": "string", "format": "email"}, "#/format: not supported: 'email'; there are: date, date-time, uuid"),
        ({"type": "object", "properties": {"a": {"type": "null"}}, "required": ["b"]}, "'b' is not among the properties"),
        ({"type": "object", "properties": {'a"': {"type": "null"}}}, "has signs that JSON escapes"),
        ({"$ref": "#/$defs/a"}, r"#/\$ref: expected a place in this schema"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}}}}, "holds itself"),
        ({"type": "string", "minLength": 3, "maxLength": 2}, "cannot read the schema: maxLength must be greater"),
        ({"type": "string", "maxLength": 9000}, "automaton of more than 4000 states; write smaller repetitions"),
    ],
)
def test_a_schema_that_is_not_supported_is_refused(schema: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=f"(?s)json: .*{told}"):
        Json(schema)


def test_faults_come_in_one_report() -> None:
    parts = {"a": {"type": "integer", "minimum": 1}, "b": {"type": "array"}}
    with pytest.raises(UsageError, match=r"2 problems\n.*#/properties/a/minimum.*\n.*#/properties/b: an array"):
        Json({"type": "object", "properties": parts})


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "outlines_core.json_schema", None)
    with pytest.raises(UsageError, match=r"outlines_core.* is not installed; pip install 'dlm-control\[json\]'"):
        Json(PUB)


def test_models_that_cannot_write_it_are_refused(
    tiny_lm: LanguageModel, lm: LanguageModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(UsageError, match=r"json: it acts on tokens, and this model writes words; give `Tokens`"):
        tiny_lm.generate([Json(PUB)])
    words = LanguageModel(OutsideBackbone(outside.masked(len(tokenizer)), WholeWords(tokenizer), 36))
    with pytest.raises(UsageError, match="json: it acts on tokens"):
        words.generate([Json(PUB)])
    for control in (Length(9), Keyword("pub")):
        with pytest.raises(UsageError, match=r"it acts on words, and this model writes tokens"):
            lm.generate([control])
    with pytest.raises(UsageError, match=r"json needs its pattern, of \d+ or more words; a text has 1 to 35 words"):
        lm.generate([Json({"const": "x?" * 40})])
    pieces = outside.sentence_pieces()
    unable = LanguageModel(OutsideBackbone(outside.masked(len(pieces)), Tokens(pieces), 36))
    with pytest.raises(UsageError, match="json: the model's tokens cannot spell any text of this schema"):
        unable.generate([Json(PUB)])


def test_it_keeps_the_contract_of_controllers(lm: LanguageModel) -> None:
    texts = ('{"name":"ab","stars":1}', '{"name":"","stars":3}', '{"name":"x", "stars":2,"cheap":true}')
    check_controller(
        Json(PUB), satisfying=texts, violating=['{"stars":1}', "[]"], faulty=[lambda: Json({"type": "sting"})], lm=lm
    )
