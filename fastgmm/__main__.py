"""The command line: ``fastgmm demo``, ``fastgmm fit``, ``fastgmm info``.

Results go to standard output, progress and complaints to standard error. Exit codes: 0 done,
2 bad input (with one line that says what), 130 interrupted, 141 nobody reads the output.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any, NoReturn

from fastgmm import GaussianMixture, load
from fastgmm._cli.demo import run_demo
from fastgmm._cli.report import describe
from fastgmm._cli.tables import read_table

BAD_INPUT, INTERRUPTED, BROKEN_PIPE = 2, 130, 141


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : list of str, optional
        The arguments; those of the process when not given.

    Returns
    -------
    code : int
        The exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without "±" shows "?"
    try:
        options = _parser().parse_args(argv)
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = _show_warning
            options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes standard output once more at exit: give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        print("fastgmm: interrupted", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, TypeError, MemoryError, OSError) as error:
        print(f"fastgmm: error: {_one_line(error)}", file=sys.stderr)
        return BAD_INPUT
    return 0


def _demo(options: argparse.Namespace) -> None:
    _check_writable(options.output)
    run_demo(options.output)


def _fit(options: argparse.Namespace) -> None:
    # What was not given is left to the estimator's own defaults.
    given = {key: value for key, value in vars(options).items() if key in PARAMETERS}
    model = GaussianMixture(**given, verbose=0 if options.quiet else 1)
    if options.output:
        _check_writable(options.output)
    X, names = read_table(options.data, options.columns)
    _say(options, f"{options.data}: {X.shape[0]} rows, {X.shape[1]} columns")
    start = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):  # the estimator reports progress by print
        model.fit(X)
    _say(options, f"fitted in {time.perf_counter() - start:.2f} s")
    model.verbose = 0
    print(describe(model, names))
    print(f"BIC {model.bic(X):.6g}, AIC {model.aic(X):.6g}")
    if options.output:
        model.save(options.output)
        _say(options, f"saved as {options.output}")


def _info(options: argparse.Namespace) -> None:
    model = load(options.model)
    names = getattr(model, "feature_names_in_", [f"x{j}" for j in range(model.n_features_in_)])
    print(describe(model, list(names)))


def _say(options: argparse.Namespace, text: str) -> None:
    if not options.quiet:
        print(text, file=sys.stderr)


def _check_writable(path: str) -> None:
    """Find out before the work, not after it, that the result has nowhere to go."""
    folder = Path(path).parent
    if not folder.is_dir():
        raise ValueError(f"{path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK) or Path(path).is_dir():
        raise ValueError(f"{path}: cannot be written")


def _one_line(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return f"not enough memory; {error}"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"fastgmm: warning: {' '.join(str(message).split())}", file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


# Options of `fit` that are parameters of the estimator: flags, type, choices, help.
PARAMETERS: dict[str, tuple[tuple[str, ...], type, tuple[str, ...] | None, str]] = {
    "n_components": (("-k", "--components"), int, None, "number of components"),
    "covariance_type": (
        ("--covariance-type",),
        str,
        ("full", "tied", "diag", "spherical"),
        "shape of the components (default: full)",
    ),
    "init_params": (
        ("--init",),
        str,
        ("kmeans", "k-means++", "random", "random_from_data"),
        "where to start (default: kmeans)",
    ),
    "n_init": (("--n-init",), int, None, "starts, the best of which is kept (default: 1)"),
    "tol": (("--tol",), float, None, "smallest gain a row worth going on for (default: 0.001)"),
    "max_iter": (("--max-iter",), int, None, "stop after so many iterations (default: 100)"),
    "reg_covar": (("--reg-covar",), float, None, "added to each variance (default: 1e-6)"),
    "random_state": (("--seed",), int, None, "seed of the random numbers (default: 0)"),
    "n_threads": (("--threads",), int, None, "threads (default: all cores)"),
}


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="fastgmm", description="Fit Gaussian mixture models.", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="choose a mixture for the shipped Old Faithful data")
    demo.add_argument("-o", "--output", default="fastgmm-demo.png", help="where the picture goes")
    demo.set_defaults(run=_demo)

    fit = commands.add_parser("fit", help="fit a mixture to the rows of a file")
    fit.add_argument("data", metavar="DATA", help="a .npy (memory-mapped), .npz or .csv file")
    fit.add_argument("-o", "--output", metavar="MODEL", help="save the fitted model (.npz)")
    fit.add_argument("--columns", help="names or numbers from 0, as in a,b or 0,3 (default: all)")
    fit.add_argument("-q", "--quiet", action="store_true", help="no progress")
    for name, (flags, kind, choices, text) in PARAMETERS.items():
        fit.add_argument(
            *flags,
            dest=name,
            type=kind,
            choices=choices,
            help=text,
            metavar=None if choices else kind.__name__.upper(),
            required=name == "n_components",
            default=0 if name == "random_state" else argparse.SUPPRESS,
        )
    fit.set_defaults(run=_fit)

    info = commands.add_parser("info", help="describe a saved model")
    info.add_argument(
        "model", metavar="MODEL", help="a file that fit or GaussianMixture.save wrote"
    )
    info.set_defaults(run=_info)
    return parser


if __name__ == "__main__":
    sys.exit(main())
