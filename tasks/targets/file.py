"""Files of targets: one JSON object a line, its `controls` written as in a spec."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from dlm_control.control.registry import parameters
from dlm_control.controllers.fields.domain import Domain
from dlm_control.controllers.semantic import Semantic
from dlm_control.support.errors import ErrorCollector, UsageError, short_repr
from dlm_control.support.files import write_whole
from dlm_control.support.records import Record, record_text
from dlm_control.support.validation import check_arguments
from dlm_control.tasks.controls import read_control
from dlm_control.tasks.targets.corpora import lines_of
from dlm_control.tasks.targets.from_text import satisfied
from dlm_control.tasks.targets.target import WORDS, Guides, Target, expected_of


@dataclass(frozen=True, kw_only=True)
class TargetLine(Record):
    """A line of a file of targets.

    Attributes:
        name: unique in the file; by default the line's number.
        controls: each as an entry of a spec's `controls`.
        reference: a text that obeys them.
        tree: the text's tree with tags, in brackets; metrics of trees compare with it.
        group: targets of one group are also scored by themselves.
    """

    name: str | None = None
    controls: list[Any]
    reference: str | None = None
    tree: str | None = None
    group: str | None = None


def read_targets(path: Path, guides: Guides) -> Iterator[Target]:
    """The targets of a file.

    Args:
        path: JSON lines, each a `TargetLine`.
        guides: for controls that do not name one.

    Raises:
        UsageError: the file is missing or lines are faulty; all faults in one report.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; --data names the folder that holds it; `dlm targets make` writes one")
    problems = ErrorCollector(str(path))
    found = [_target(line, f"line {number}", guides, problems) for number, line in enumerate(lines_of(path), start=1)]
    problems.raise_if_any()
    yield from (target for target in found if target is not None)


def make_targets(
    corpus: Path, kinds: Sequence[str], out: Path, count: int, seed: int, fields: int = 1, domain: Domain | None = None
) -> int:
    """Write targets that sentences of a corpus obey.

    Args:
        corpus: a CSV with a column `ref` and, for semantic controls, `mr` or a column for each field.
        kinds: of controls, all of which every target has.
        out: the file.
        count: targets at most.
        seed: of the choice of sentences and of what is asked.
        fields: how many fields a semantic control asks for.
        domain: which fields there are.

    Returns:
        How many there are.
    """
    made = list(islice(satisfied(corpus, WORDS._replace(domain=domain), kinds, seed, fields=fields), count))
    if not made:
        raise UsageError(f"targets: no sentence of {corpus} has what {', '.join(kinds)} can ask for")
    lines = []
    for number, target in enumerate(made, start=1):
        controls = [{kind: _arguments(control)} for kind, control in zip(kinds, target.controls, strict=True)]
        tree = " ".join(str(target.expected["tree"]).split()) if "tree" in target.expected else None
        line = TargetLine(name=f"{'+'.join(kinds)} {number}", controls=controls, reference=target.reference, tree=tree)
        lines.append(record_text(line))
    write_whole({out: "".join(lines)})
    return len(made)


def _arguments(control: Any) -> dict[str, Any]:
    """What a controller was made of, its guide and its defaults left out."""
    plain = parameters(type(control))
    given = {key: value for key, value in vars(control).items() if key in plain and key != "guide"}
    return {key: value for key, value in given.items() if value != plain[key].default}


def _target(line: str, place: str, guides: Guides, problems: ErrorCollector) -> Target | None:
    try:
        given = json.loads(line)
    except json.JSONDecodeError as error:
        problems.add(place, f"not JSON: {error}")
        return None
    if not isinstance(given, dict):
        problems.add(place, f"expected a JSON object with `controls`, got {short_repr(line)}; is it a file of another format?")
        return None
    found = check_arguments(problems, place, TargetLine, given)
    guided = {
        "semantic": {"guide": guides.semantic, "domain": guides.domain},
        **{kind: {"guide": guides.structure} for kind in ("pos", "tree", "span")},
    }
    entries = [
        read_control(entry, f"{place}.controls[{i}]", problems, guided) for i, entry in enumerate(found.get("controls", ()))
    ]
    controls = [entry.control for entry in entries if entry is not None]
    if any(isinstance(each.controller, Semantic) and not each.controller.has_domain for each in controls):
        problems.add(place, "no fields are known; name their domain file in the suite, such as `domain: fields.yaml`")
    tree = None
    if found.get("tree"):
        from dlm_control.controllers.linguistics.trees import read_tree

        try:
            tree = read_tree(found["tree"])
        except UsageError as error:
            problems.extend(f"{place}.tree", error)
    if "controls" not in found:
        return None
    given = TargetLine(**found)
    name = given.name or re.sub(r"\D", "", place)
    return Target(name, controls, expected_of(controls, tree), given.reference, group=given.group or "")
