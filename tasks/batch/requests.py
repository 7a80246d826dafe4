"""From a template and a table to what every row asks for."""

from __future__ import annotations

from collections.abc import Sequence

from dlm_control.diffusion.backbone import Backbone
from dlm_control.sampling.batch import RowRequest, RowSeeds
from dlm_control.sampling.feasible import check_feasible
from dlm_control.sampling.presets import check_kind
from dlm_control.support.errors import ErrorCollector, UsageError, suggestion
from dlm_control.tasks.batch.faults import RowFaults
from dlm_control.tasks.batch.table import Row
from dlm_control.tasks.batch.template import Template


def requests_of(
    template: Template, rows: Sequence[Row], keep: Sequence[str], lm: Backbone, faults: RowFaults
) -> list[RowRequest]:
    """What the rows ask for; of those without faults the request, of the others what is wrong.

    Args:
        template: that they fill.
        rows: of the table.
        keep: columns that no variable uses.
        lm: the model.
        faults: takes those of the template, the table and the rows.
    """
    _check_columns(template, rows, keep, faults)
    try:
        check_kind(template.spec.preset.for_model(lm), lm.kind, lm.settings)
    except UsageError as error:
        for fault in error.issues:
            faults.add(template.located("preset"), str(fault))
    seeds, found = RowSeeds(), dict[int, RowRequest]()
    for row in rows:
        lacking = [name for name in template.names if name not in row.values]
        if row.error is not None or lacking:
            if row.error is not None:
                faults.add_row(row.number, [], "", row.error)
            for name in lacking if row.error is None else ():
                faults.add_row(row.number, [name], "", "not given")
            continue
        problems = ErrorCollector(f"row {row.number}")
        values = {name: row.values[name] for name in template.names}
        asked = template.filled(values, problems)
        if not problems.found:
            check_feasible(lm, asked.controls, problems)
        for place, message in problems.found:
            blamed = template.blamed(place)
            if blamed is None:
                faults.add(template.located(place), message)
            else:
                faults.add_row(row.number, blamed, place, message)
        if not problems.found:
            try:
                request = seeds.request([control for _, control in asked.controls], values, asked.num_samples, asked.seed)
                found[row.number] = RowRequest(row.number, request)
            except UsageError as error:
                faults.add_row(row.number, template.names, "", str(error))
    errors = faults.of_rows()
    return [found.get(row.number) or RowRequest(row.number, None, errors.get(row.number)) for row in rows]


def _check_columns(template: Template, rows: Sequence[Row], keep: Sequence[str], faults: RowFaults) -> None:
    first = {name: row.number for row in reversed(rows) for name in row.values}
    columns = sorted(first, key=lambda name: first[name])
    there = f"the columns are {', '.join(columns)}" if columns else "no row has any value"
    for name in template.names:
        if name not in first:
            faults.add(f"${{{name}}}", f"no row gives it{suggestion(name, columns)}; {there}")
    for name in keep:
        if name not in first:
            faults.add(f"--keep {name}", f"no such column{suggestion(name, columns)}; {there}")
    for name in columns:
        if name not in template.names and name not in keep:
            near = suggestion(name, template.names)
            message = f"the template has no ${{{name}}}{near}; --keep {name} copies it to the output"
            faults.add(f"column {name} (row {first[name]})", message)
