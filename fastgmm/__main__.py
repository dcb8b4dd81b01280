"""The command line: ``fastgmm COMMAND``; the commands live in ``_cli``.

Results go to standard output, progress and complaints to standard error. Exit codes: 0 done,
2 bad input (with one line that says what), 130 interrupted, 141 nobody reads the output.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

from fastgmm._cli.demo import add_demo
from fastgmm._cli.detect import add_detect
from fastgmm._cli.fit import add_fit, add_info
from fastgmm._cli.segment import add_segment
from fastgmm._cli.select import add_select
from fastgmm._cli.use import add_predict, add_sample, add_score

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
    except (ValueError, TypeError, MemoryError, OSError, ImportError) as error:
        print(f"fastgmm: error: {_one_line(error)}", file=sys.stderr)
        return BAD_INPUT
    return 0


def _one_line(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return f"not enough memory; {error}"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    text = str(error)
    if isinstance(error, OSError) and error.strerror is not None:
        text = error.strerror  # without the number
    return " ".join(text.split())


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"fastgmm: warning: {' '.join(str(message).split())}", file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


# Each adds one command.
COMMANDS: tuple[Callable[[Any], None], ...] = (
    add_demo,
    add_fit,
    add_info,
    add_predict,
    add_score,
    add_sample,
    add_select,
    add_detect,
    add_segment,
)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="fastgmm", description="Fit Gaussian mixture models.", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in COMMANDS:
        add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
