"""From operators and a calibration to seconds, each with an interval and what limits it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, overload

from microbench.errors import UsageError, expect
from microbench.records import Characterisation

if TYPE_CHECKING:
    from microbench.operators import Op, Table
    from microbench.operators.capture import Graph
    from microbench.operators.core import Launch
    from microbench.predict.model import ModelTime
    from microbench.predict.transfer import On
    from microbench.records import Prediction


@overload
def predict(
    what: Graph,
    calibration: Characterisation | Sequence[Characterisation] | None = None,
    *,
    on: On | None = None,
    launch: Launch | None = None,
) -> ModelTime: ...
@overload
def predict(
    what: Op | str | Sequence[Op | str] | Table,
    calibration: Characterisation | Sequence[Characterisation] | None = None,
    *,
    on: On | None = None,
    launch: Launch | None = None,
) -> list[Prediction]: ...
def predict(
    what: Graph | Op | str | Sequence[Op | str] | Table,
    calibration: Characterisation | Sequence[Characterisation] | None = None,
    *,
    on: On | None = None,
    launch: Launch | None = None,
) -> ModelTime | list[Prediction]:
    """Predict operators one by one, or a captured model as a whole.

    Parameters
    ----------
    what
        An operator or its expression, or several, or a table, or what ``capture`` made of a model.
    calibration
        The measured or fitted device; with ``on`` also several, which are pooled, or none: the fits that the package
        carries.
    on
        Another device to predict for, of which only ceilings are known: a characterisation, the path of one or of a
        TOML file of figures, or the name of a GPU, whose nominal figures are taken.
    launch
        How all of it is called: eager, graph or kernel. Where it is left out operators keep their own and a model is
        eager.

    Returns
    -------
    list of Prediction or ModelTime
        Operators in the order asked, as many as asked; of a table the rows that could be read and that the calibration
        has ceilings for. One ``ModelTime`` for a captured model.

    Raises
    ------
    UsageError
        If an expression is wrong, or the calibration lacks what is needed for any of the operators asked.
    """
    from microbench.operators import Op, Table, table_of
    from microbench.operators.capture import Graph
    from microbench.operators.core import mode, parse
    from microbench.predict.model import predict_model
    from microbench.predict.operator import predict_table
    from microbench.predict.prediction_rows import predictions
    from microbench.predict.transfer import families_of, families_of_model
    from microbench.records.framed import Rows

    if isinstance(what, Graph):
        return predict_model(what, _held(calibration, on, families_of_model(what)), mode("launch", launch or "eager"))
    if isinstance(what, Table):
        if launch is not None:
            raise UsageError("a table says itself how its rows are launched; give it a column launch")
        table, names = what, [""] * what.size
    else:
        asked = [what] if isinstance(what, Op | str) else what
        wanted = "an operator, an expression such as 'matmul:m=8,n=8,k=8', several of them, a table or a graph"
        expect("what is to be predicted", asked, Sequence, wanted)
        for each in asked:
            expect("what is to be predicted", each, (Op, str), wanted)
        made = [parse(item) if isinstance(item, str) else item for item in asked]
        if launch is not None:
            made = [replace(each, launch=mode("launch", launch)) for each in made]
        table, names = table_of(made), [str(item) for item in made]
    columns = predict_table(table, _held(calibration, on, families_of(table)))
    left_out = [name for name, limiter in zip(names, columns.limiter, strict=True) if not limiter]
    if left_out and not isinstance(what, Table):
        why = next((each.says for each in columns.findings if each.severity == "error"), "the calibration lacks it")
        raise UsageError(f"{left_out[0][:120]} cannot be predicted: {why}")
    return Rows(predictions(table, columns, names))


def _held(
    calibration: Characterisation | Sequence[Characterisation] | None, on: On | None, wanted: set[tuple[str, str, str]]
) -> Characterisation:
    """The calibration to predict from, carried to another device where one is asked for."""
    from microbench.predict.sources import shipped
    from microbench.predict.transfer import carry

    form = "a characterisation, as microbench.load(PATH) reads one"
    if not isinstance(calibration, Sequence | None) or isinstance(calibration, str):
        expect("the calibration", calibration, Characterisation, form)
    listed = [calibration] if isinstance(calibration, Characterisation) else list(calibration or ())
    for each in listed:
        expect("the calibration", each, Characterisation, form)
    if on is not None:
        return carry(listed or shipped(), on, wanted)
    if not listed:
        expect("the calibration", calibration, Characterisation, form)
    if len(listed) != 1:
        raise UsageError(f"{len(listed)} calibrations were given; say which device is asked for: on=...")
    return listed[0]
