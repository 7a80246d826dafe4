"""What the studio shows, as HTML: runs, verdicts, tables. Everything that a person or a model wrote is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from dlm_control.control.controller import Check
from dlm_control.eval.studio.results import ReadText
from dlm_control.eval.studio.verdict import Verdict
from dlm_control.eval.studio.writing import Text, View
from dlm_control.sampling.sample import Sample
from dlm_control.tasks.film import Control, Frame

COLOURS = 6
UNSURE = 0.5  # a word below this probability is dim


def run_html(view: View) -> str:
    """A run: how far it is, what the colours mean, and every text."""
    texts = "".join(_text(text, view.controls) for text in view.texts)
    return f'{_head(view)}{_legend(view.controls)}<ol class="st-texts">{texts}</ol>'


def empty_html(title: str, says: str) -> str:
    """What stands where nothing is yet."""
    return f'<div class="st-empty"><p class="st-empty-title">{escape(title)}</p><p>{escape(says)}</p></div>'


def problem_html(message: str) -> str:
    """One thing that went wrong."""
    return f'<div class="st-verdict st-bad" role="alert"><p>{escape(message)}</p></div>'


def said_html(message: str) -> str:
    """Something that went well."""
    return f'<p class="st-soft" role="status">{escape(message)}</p>'


def verdict_html(verdict: Verdict) -> str:
    """All faults of a spec, or how firmly its controls will be held."""
    if not verdict.faults:
        held = "".join(f"<li>{escape(name)} <b>{escape(how)}</b></li>" for name, how in verdict.firmness.items())
        return f'<div class="st-verdict st-good" role="status"><p>✓ Ready</p><ul class="st-held">{held}</ul></div>'
    known = "<p>The form shows the last YAML that could be read.</p>" if verdict.unreadable else ""
    count = f"{len(verdict.faults)} problem{'s' if len(verdict.faults) > 1 else ''}"
    items = []
    for fault in verdict.faults:
        line = verdict.line_of(fault.place)
        where = f'<span class="st-soft">line {line}</span> ' if line else ""
        items.append(f"<li>{where}{escape(str(fault))}</li>")
    return f'<div class="st-verdict st-bad" role="status"><p>{count}</p><ul>{"".join(items)}</ul>{known}</div>'


def faults_html(messages: Sequence[str]) -> str:
    """The faults of one control, for its own card; nothing where it has none."""
    return "".join(f'<p class="st-fault">{escape(message)}</p>' for message in messages)


def table_html(head: Sequence[str], body: Iterable[Sequence[str]], caption: str = "") -> str:
    """A table; the first cell of each row names it."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    rows = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in body
    )
    said = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="st-table" tabindex="0" role="group" aria-label="{escape(caption or head[0])}">'
        f"<table>{said}<thead><tr>{top}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _head(view: View) -> str:
    share = round(100 * view.done)
    bar = "" if view.outcome else f'<progress max="100" value="{share}" aria-label="progress"></progress>'
    live = ' role="status"' if view.outcome else ""  # read aloud once, not at every step
    return f'<div class="st-head"{live}><p>{escape(view.status)}</p>{bar}</div>'


def _legend(controls: Sequence[Control]) -> str:
    items = [
        f'<li><span class="st-held-word st-c{i % COLOURS}">{escape(control.name)}</span> {escape(control.target)}</li>'
        for i, control in enumerate(controls)
    ]
    return f'<ul class="st-legend" aria-label="colours of the controls">{"".join(items)}</ul>' if items else ""


def _text(text: Text, controls: Sequence[Control]) -> str:
    sample = text.sample
    if sample is not None and sample.error is not None:
        return f'<li value="{text.number}"><p class="st-fault">{escape(sample.error)}</p></li>'
    below = _energies(text.frame, controls) if sample is None else _checks(sample, controls)
    note = f'<span class="st-soft">{escape(text.note)}</span>' if text.note else ""
    words = _words(text.frame, controls, final=sample is not None)
    return f'<li value="{text.number}"><p class="st-words">{words}</p><div class="st-below">{note}{below}</div></li>'


def _words(frame: Frame, controls: Sequence[Control], final: bool) -> str:
    parts = []
    for word in frame.words:
        classes = "" if final or word.prob >= UNSURE else "st-unsure "
        text = escape(word.text.rstrip())
        if word.control is not None:
            holder = escape(controls[word.control].name)
            text = f'<span class="{classes}st-held-word st-c{word.control % COLOURS}" title="held by {holder}">{text}</span>'
        elif classes:
            text = f'<span class="{classes.strip()}">{text}</span>'
        parts.append(text + word.text[len(word.text.rstrip()) :])
    return "".join(parts)


def _energies(frame: Frame, controls: Sequence[Control]) -> str:
    """A bar for each control: how much it still asks for."""
    bars = []
    for i, (control, energy) in enumerate(zip(controls, frame.energies, strict=True)):
        if energy is None:
            continue
        share = round(100 * min(1.0, max(0.0, energy) / control.highest))
        bar = f'<i class="st-bar"><i class="st-c{i % COLOURS}" style="width:{share}%"></i></i>'
        bars.append(f'<span class="st-energy">{escape(control.name)} {bar} {energy:.1f}</span>')
    return "".join(bars)


def _checks(sample: Sample, controls: Sequence[Control]) -> str:
    return "".join(_check(control.name, i, sample) for i, control in enumerate(controls) if control.name in sample.checks)


def _check(name: str, number: int, sample: Sample) -> str:
    check: Check = sample.checks[name]
    sign, said, kind = ("✓", "passed", "ok") if check.passed else ("✗", "failed", "no")
    if not check.judged:
        sign, said, kind = "?", "not judged", "open"
    energy = f" · {sample.energies[name]:.2f} nats" if name in sample.energies else ""
    return (
        f'<span class="st-check st-{kind}"><b aria-label="{said}">{sign}</b> '
        f'<span class="st-name st-c{number % COLOURS}">{escape(name)}</span> {escape(check.why)}{energy}</span>'
    )


def texts_html(texts: Sequence[ReadText], first: int, most: int) -> str:
    """A page of texts from a result file.

    Args:
        texts: all of them.
        first: which one is shown first, from 0.
        most: of a page.
    """
    if not texts:
        return empty_html("No such text", "Other letters or another choice may find one.")
    items = []
    for number, each in enumerate(texts[first : first + most], start=first + 1):
        surprise = "" if each.surprise is None else f" · {each.surprise:.2f} nats a word"
        sign, kind = ("✗", "no") if each.failed else ("✓", "ok")
        faults = "".join(f'<li class="st-fault">{escape(why)}</li>' for why in (*each.failed, *each.flaws))
        items.append(
            f'<li value="{number}"><p class="st-words"><b class="st-{kind}">{sign}</b> {escape(each.text)}</p>'
            f'<p class="st-soft">{escape(each.target)}{surprise}</p><ul class="st-reasons">{faults}</ul></li>'
        )
    last = min(first + most, len(texts))
    return (
        f'<p class="st-soft" role="status">{first + 1} to {last} of {len(texts)}</p><ol class="st-texts">{"".join(items)}</ol>'
    )
