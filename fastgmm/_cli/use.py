"""``fastgmm predict``, ``score`` and ``sample``: what a saved model says, and makes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastgmm import Batches, Parquet, load
from fastgmm._cli.common import add_data, add_quiet, check_writable, say
from fastgmm._cli.report import Mixture
from fastgmm._cli.results import check_table_name, write_table
from fastgmm._cli.tables import Table, pieces, read_for


def add_predict(commands: Any) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("predict", help="tell the component of each row of a file")
    _add_model(parser)
    add_data(parser)
    parser.add_argument("--proba", action="store_true", help="probabilities of all components")
    _add_output(parser, "-o", "--output", text="save instead of print")
    add_quiet(parser)
    parser.set_defaults(run=_predict)


def add_score(commands: Any) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("score", help="tell how well a model fits the rows of a file")
    _add_model(parser)
    add_data(parser)
    _add_output(parser, "--samples", text="save the log-density of each row")
    add_quiet(parser)
    parser.set_defaults(run=_score)


def add_sample(commands: Any) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("sample", help="draw rows from a model")
    _add_model(parser)
    parser.add_argument(
        "-n", dest="n_samples", type=int, required=True, metavar="INT", help="number of rows"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="INT", help="seed of the random numbers (default: 0)"
    )
    _add_output(parser, "-o", "--output", text="save instead of print")
    add_quiet(parser)
    parser.set_defaults(run=_sample)


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a file that fit, select or save wrote")


def _add_output(parser: argparse.ArgumentParser, *flags: str, text: str) -> None:
    parser.add_argument(*flags, dest="output", metavar="FILE", help=f"{text} (.npy or .csv)")


def _check_output(path: str | None, *inputs: str) -> None:
    if path is not None:
        check_table_name(path)
        check_writable(path, *inputs)


def _read(model: Mixture, options: argparse.Namespace) -> Table:
    X, names = read_for(model, options.data, options.columns)
    say(options, f"{options.data}: {X.shape[0]} rows, {len(names)} columns")
    return X


def _write(
    options: argparse.Namespace, values: Iterable[NDArray[Any]], heads: list[str], n_rows: int
) -> None:
    write_table(options.output, values, heads, n_rows)
    if options.output:
        say(options, f"saved as {options.output}")


def _answers(
    answer: Callable[[NDArray[Any]], NDArray[Any]], X: Table, width: int = 1
) -> Iterator[NDArray[Any]]:
    """Yield the model's answers piece by piece; ``width`` numbers for each row."""
    start = 0
    for piece in pieces(X, width):
        try:
            yield answer(piece)
        except ValueError:
            bad = ~np.isfinite(piece)
            if start == 0 or not bad.any():
                raise
            row, column = np.argwhere(bad)[0]  # the model counts from the piece's first row
            raise ValueError(
                f"Input X contains NaN or infinity. The first is in row {start + row}, column "
                f"{column} (counted from 0): drop such rows, or impute their values."
            ) from None
        start += len(piece)


def _predict(options: argparse.Namespace) -> None:
    _check_output(options.output, options.model, options.data)
    model = load(options.model)
    X = _read(model, options)
    heads, answer = ["component"], model.predict
    if options.proba:
        heads = [f"component {k}" for k in range(len(model.weights_))]
        answer = model.predict_proba
    _write(options, _answers(answer, X, len(heads)), heads, X.shape[0])


def _score(options: argparse.Namespace) -> None:
    _check_output(options.output, options.model, options.data)
    model = load(options.model)
    X = _read(model, options)
    rows = Batches(X, X.shape[0]) if isinstance(X, Parquet) else X  # without names, too
    if hasattr(model, "information_criteria"):
        found = model.information_criteria(rows)
        total = found.log_likelihood
        criteria = f"BIC {found.bic:.6g}, AIC {found.aic:.6g}, ICL {found.icl:.6g}\n"
    else:  # criteria count parameters, which priors hold back
        total, criteria = model.score(rows) * X.shape[0], ""
    if options.output:
        _write(options, _answers(model.score_samples, X), ["log-density"], X.shape[0])
    print(f"log-likelihood {total:.10g}, mean {total / X.shape[0]:.6g} a row\n{criteria}", end="")


def _sample(options: argparse.Namespace) -> None:
    _check_output(options.output, options.model)
    model = load(options.model)
    rows, _ = model.sample(options.n_samples, random_state=np.random.RandomState(options.seed))
    names = getattr(model, "feature_names_in_", [f"x{j}" for j in range(rows.shape[1])])
    _write(options, [rows], list(names), len(rows))
