"""``fastgmm detect``: the rows of a file that a saved model finds abnormal."""

from __future__ import annotations

import argparse
import csv
import sys
from typing import Any, TextIO

import numpy as np

from fastgmm import GaussianMixtureOutlierDetector, load
from fastgmm._cli.common import add_data, add_quiet, check_writable, say
from fastgmm._cli.results import replaced, text_of
from fastgmm._cli.tables import read_table, take_rows


def add_detect(commands: Any) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "detect",
        help="find outliers among the rows of a file",
        description="Write the outliers among the rows of DATA as comma-separated values: their "
        "numbers, counted from 0 without a header, and scores.",
    )
    parser.add_argument(
        "model", metavar="MODEL", help="a file that fit or GaussianMixture.save wrote"
    )
    add_data(parser)
    parser.add_argument("-o", "--output", metavar="CSV", help="where to (default: standard output)")
    parser.add_argument(
        "--rule",
        choices=("mixture", "component"),
        default="mixture",
        help="density of the mixture, or of a row's own component (default: mixture)",
    )
    threshold = parser.add_mutually_exclusive_group()
    threshold.add_argument(
        "--contamination",
        type=float,
        metavar="SHARE",
        help="share of outliers in DATA, up to 0.5 (default: 0.1)",
    )
    threshold.add_argument(
        "--log-density", type=float, metavar="FLOAT", help="outliers have a lower log-density"
    )
    threshold.add_argument(
        "--false-alarm",
        type=float,
        metavar="P",
        help="probability to call a normal row an outlier; needs --rule component, and scores "
        "are then log p-values",
    )
    parser.add_argument(
        "--explain",
        action="store_true",
        help="add each outlier's component, Mahalanobis distance, and what each column contributes "
        "to its square",
    )
    add_quiet(parser)
    parser.set_defaults(run=_detect)


def _detect(options: argparse.Namespace) -> None:
    mixture = load(options.model)
    if options.output:
        check_writable(options.output)
    X, names = read_table(options.data, options.columns)
    detector = GaussianMixtureOutlierDetector.from_mixture(
        mixture,
        X,
        rule=options.rule,
        contamination=options.contamination,
        log_density=options.log_density,
        false_alarm=options.false_alarm,
    )
    scores = detector.score_samples(X)
    rows = np.flatnonzero(scores < detector.offset_)
    say(
        options,
        f"{options.data}: {len(rows)} of {len(scores)} rows score below {detector.offset_:.6g}",
    )
    if options.output:
        with replaced(options.output) as file, text_of(file) as text:
            _write(text, options, detector, X, names, rows, scores)
        say(options, f"saved as {options.output}")
    else:
        _write(sys.stdout, options, detector, X, names, rows, scores)


def _write(
    file: TextIO,
    options: argparse.Namespace,
    detector: GaussianMixtureOutlierDetector,
    X: Any,
    names: list[str],
    rows: Any,
    scores: Any,
) -> None:
    writer = csv.writer(file, lineterminator="\n")
    if not options.explain:
        writer.writerow(["row", "score"])
        writer.writerows(zip(rows.tolist(), scores[rows].tolist(), strict=True))
        return
    writer.writerow(["row", "score", "component", "distance", *names])
    if len(rows) == 0:
        return
    found = detector.explain(take_rows(X, rows))
    for i, row in enumerate(rows):
        numbers = [found.distance[i], *found.contributions[i]]
        writer.writerow(
            [int(row), float(scores[row]), int(found.component[i]), *map(float, numbers)]
        )
