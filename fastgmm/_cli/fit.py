"""``fastgmm fit`` and ``fastgmm info``: make a model file, and say what is in one."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from pathlib import Path
from typing import Any

from fastgmm import BayesianGaussianMixture, GaussianMixture, load
from fastgmm._cli.common import (
    PARAMETERS,
    add_data,
    add_parameters,
    add_quiet,
    check_writable,
    given_parameters,
    say,
)
from fastgmm._cli.report import describe
from fastgmm._cli.tables import read_table


def add_fit(commands: Any) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("fit", help="fit a mixture to the rows of a file")
    add_data(parser)
    parser.add_argument("-o", "--output", metavar="MODEL", help="save the fitted model (.npz)")
    parser.add_argument(
        "--checkpoint", metavar="FILE", help="write there now and then how far the fit is (.npz)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the checkpoint, if it is there"
    )
    add_quiet(parser)
    add_parameters(parser, GaussianMixture, BayesianGaussianMixture, required=("n_components",))
    parser.add_argument(
        "--bayesian",
        dest="estimator",
        action="store_const",
        const=BayesianGaussianMixture,
        default=GaussianMixture,
        help="variational inference: components that are not needed lose their weight",
    )
    parser.set_defaults(run=_fit)


def add_info(commands: Any) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("info", help="describe a saved model")
    parser.add_argument("model", metavar="MODEL", help="a file that fit or the method save wrote")
    parser.set_defaults(run=_info)


def _fit(options: argparse.Namespace) -> None:
    if options.resume and options.checkpoint is None:
        raise ValueError("--resume needs the file to go on from: give --checkpoint, too")
    params = given_parameters(options)
    _check_parameters(options.estimator, params)
    model = options.estimator(**params, verbose=0 if options.quiet else 1)
    if options.output is not None:
        check_writable(options.output, options.data)
    if options.checkpoint is not None:
        check_writable(options.checkpoint, options.data)
        if options.output and Path(options.output).resolve() == Path(options.checkpoint).resolve():
            raise ValueError("--output and --checkpoint must be two files")
    X, names = read_table(options.data, options.columns)
    say(options, f"{options.data}: {X.shape[0]} rows, {X.shape[1]} columns")
    start = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):  # the estimator reports progress by print
        _fit_model(model, X, options)
    say(options, f"fitted in {time.perf_counter() - start:.2f} s")
    model.verbose = 0
    if options.output:  # before anything is printed: nobody may be there to read it
        model.save(options.output)
        say(options, f"saved as {options.output}")
    print(describe(model, names))
    criteria = [name for name in ("bic", "aic") if hasattr(model, name)]
    if criteria:
        print(", ".join(f"{name.upper()} {getattr(model, name)(X):.6g}" for name in criteria))


def _fit_model(model: Any, X: Any, options: argparse.Namespace) -> None:
    try:
        model.fit(X, checkpoint=options.checkpoint, resume=options.resume)
    except KeyboardInterrupt:
        if options.checkpoint and Path(options.checkpoint).exists():
            how = "the same command" if options.resume else "the same command and --resume"
            print(f"fastgmm: {options.checkpoint} is kept: {how} goes on", file=sys.stderr)
        raise


def _check_parameters(estimator: type[Any], params: dict[str, Any]) -> None:
    """Raise ValueError if a parameter is the other estimator's."""
    for name in params.keys() - estimator().get_params().keys():
        flag = PARAMETERS[name][0][-1]
        if estimator is GaussianMixture:
            raise ValueError(f"{flag} needs --bayesian: maximum likelihood has no such prior")
        raise ValueError(f"{flag} does not go with --bayesian, which has priors of its own")


def _info(options: argparse.Namespace) -> None:
    model = load(options.model)
    names = getattr(model, "feature_names_in_", [f"x{j}" for j in range(model.n_features_in_)])
    print(describe(model, list(names)))
