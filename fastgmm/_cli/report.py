"""A fitted mixture as readable text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from fastgmm import BayesianGaussianMixture, GaussianMixture, ModelSelection
from fastgmm._matrices import covariance_matrices

__all__ = ["criterion_table", "describe", "table"]

MAX_FEATURES = 6  # what fits across a screen
Mixture: TypeAlias = GaussianMixture | BayesianGaussianMixture


def describe(model: Mixture, names: Sequence[str]) -> str:
    """Describe a fitted model: how the fit ended, and each component's parameters.

    Parameters
    ----------
    model : GaussianMixture or BayesianGaussianMixture
        A fitted model.
    names : sequence of str
        The names of its features.

    Returns
    -------
    text : str
        Several lines.
    """
    k, d = model.means_.shape
    state = "converged" if model.converged_ else "not converged"
    effective = getattr(model, "n_effective_components_", k)
    fewer = f" ({effective} effective)" if effective < k else ""
    lines = [
        f"{k} component{'s' * (k > 1)}{fewer}, {d} feature{'s' * (d > 1)}, "
        f"{model.covariance_type} covariance, {model.means_.dtype}",
        f"{state} after {model.n_iter_} iterations, " + _bound(model),
        "",
    ]
    covariances = covariance_matrices(model.means_, model.covariances_, model.covariance_type)
    sd = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2))
    shown = min(d, MAX_FEATURES)
    heads = ["component", "weight", *names[:shown]]
    if d == 2:
        heads.append("correlation")
    rows = []
    for i in range(k):
        row = [f"{i}", f"{model.weights_[i]:.4f}"]
        row += [f"{model.means_[i, j]:.4g} ± {sd[i, j]:.2g}" for j in range(shown)]
        if d == 2:
            row.append(f"{covariances[i, 0, 1] / sd[i].prod():.2f}")
        rows.append(row)
    lines += [table(heads, rows), "", "Features: mean ± standard deviation in each component."]
    if d > shown:
        lines[-1] += f" {d - shown} more are not shown."
    return "\n".join(lines)


def _bound(model: Mixture) -> str:
    """Say what the fit maximised, and what it came to."""
    value = f"{float(model.lower_bound_):.6g}"
    if isinstance(model, BayesianGaussianMixture):
        return f"lower bound {value}"
    what = "log-likelihood" if model.prior is None else "log-posterior"
    return f"mean {what} {value} a row"


def criterion_table(selection: ModelSelection) -> str:
    """Set the criterion of all candidates in a table, with a star at the smallest.

    Parameters
    ----------
    selection : ModelSelection
        What `select_model` found.

    Returns
    -------
    text : str
        A line for each number of components, a column for each covariance type; "-" where the
        fit failed.
    """
    cells = {}
    for row in selection.table:
        star = "*" if row is selection.best_row else " "
        text = f"{getattr(row, selection.criterion):.1f}" if row.error is None else "-"
        cells[row.n_components, row.covariance_type] = text + star
    sizes = dict.fromkeys(k for k, _ in cells)
    types = dict.fromkeys(kind for _, kind in cells)
    rows = [[f"{k}", *(cells[k, kind] for kind in types)] for k in sizes]
    return table(["components", *(f"{kind} " for kind in types)], rows)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Set text in columns, to the right.

    Parameters
    ----------
    heads : sequence of str
        The column heads.
    rows : sequence of sequence of str
        The cells.

    Returns
    -------
    text : str
        One line a row, under the heads and a rule.
    """
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = [heads, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )
