"""How many components, and of which shape? Two data sets, 40 candidates each, chosen by BIC.

The eruptions of Old Faithful, and four lengths of iris flowers. `select_model` fits all candidates
and keeps the best; what it finds is what mclust finds among the same models.

    python examples/choose_model.py [--output choose_model.png]
"""

import argparse
from pathlib import Path

from matplotlib.figure import Figure
from sklearn.datasets import load_iris

from fastgmm import select_model
from fastgmm.data import load_faithful


def main():
    """Choose, and draw into the file that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default=Path(__file__).with_suffix(".png"))
    output = parser.parse_args().output

    data = {"Old Faithful": load_faithful(), "iris": load_iris().data}
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    for ax, (name, X) in zip(figure.subplots(1, 2), data.items(), strict=True):
        selection = select_model(X, range(1, 11), tol=1e-6, max_iter=2000, random_state=0)
        selection.plot(ax=ax)
        row = selection.best_row
        kind, k, bic = row.covariance_type, row.n_components, row.bic
        ax.set_title(f"{name}: {k} components, {kind} covariance (BIC {bic:.1f})")
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(output, dpi=80)


if __name__ == "__main__":
    main()
