"""Fitted models as files: NumPy arrays and a JSON header in an ``.npz`` archive, no pickle.

How values get into the archive and out of it is told in ``_archive``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeAlias

import fastgmm
from fastgmm._archive import decode, encode, read_archive, write_archive
from fastgmm._model_checks import CHECKS, check_model, is_fitted_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastgmm.bayesian import BayesianGaussianMixture
    from fastgmm.mixture import GaussianMixture

    Mixture: TypeAlias = GaussianMixture | BayesianGaussianMixture

__all__ = ["load", "save"]

FORMAT = "fastgmm model"
FORMAT_VERSION = 1


def save(model: Mixture, path: str | os.PathLike[str]) -> None:
    """Write a fitted model to a file; an old file is replaced as a whole or not at all.

    Parameters
    ----------
    model : GaussianMixture or BayesianGaussianMixture
        A fitted model.
    path : path-like
        Where to write, usually with the suffix ``.npz``.

    Raises
    ------
    TypeError
        If the class of the model or of a parameter has no place in a model file.
    ValueError
        If the model is not fitted or its parameters are not those of a mixture.

    See Also
    --------
    load : Read the model back.

    Examples
    --------
    >>> import tempfile, pathlib, fastgmm
    >>> model = fastgmm.GaussianMixture(random_state=0).fit([[0.0], [1.0], [3.0]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fastgmm.io.save(model, pathlib.Path(folder) / "model.npz")
    ...     again = fastgmm.load(pathlib.Path(folder) / "model.npz")
    >>> again.means_ == model.means_
    array([[ True]])
    """
    name = type(model).__name__
    if name not in CHECKS:
        raise TypeError(f"{name} has no place in a model file, only {', '.join(CHECKS)}")
    fitted = {key: value for key, value in vars(model).items() if is_fitted_name(key)}
    parameters = model.get_params(deep=False)
    check_model(name, parameters, fitted)  # nothing is written that could not be read back

    arrays: dict[str, NDArray[Any]] = {}
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "fastgmm": fastgmm.__version__,
        "class": name,
        "parameters": {key: encode(value, key, arrays) for key, value in parameters.items()},
        "attributes": {key: encode(value, key, arrays) for key, value in fitted.items()},
    }
    write_archive(path, header, arrays)


def load(path: str | os.PathLike[str]) -> Mixture:
    """Read a model written by its method `save`.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    model : GaussianMixture or BayesianGaussianMixture
        A fitted model, equal to the saved one.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, is no model file, was written by a newer version of the format,
        or contradicts itself. Nothing in a file is ever executed.

    Examples
    --------
    >>> import tempfile, pathlib, fastgmm
    >>> model = fastgmm.GaussianMixture(random_state=0).fit([[0.0], [1.0], [3.0]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(pathlib.Path(folder) / "model.npz")
    ...     print(fastgmm.load(pathlib.Path(folder) / "model.npz"))
    GaussianMixture(random_state=0)
    """
    with open(path, "rb") as file:
        try:
            return _model(*read_archive(file, FORMAT, FORMAT_VERSION))
        except Exception as error:
            # Damage can surface anywhere in zipfile, json or numpy: no list of classes is complete.
            message = f"cannot read a fastgmm model from {os.fspath(path)!r}: {error}"
            raise ValueError(message) from error


# -- the model --------------------------------------------------------------------------------


def _model(header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Mixture:
    if header["class"] not in CHECKS:
        raise ValueError(f"it holds an unknown class {header['class']!r}")
    parameters = {key: decode(value, arrays) for key, value in header["parameters"].items()}
    fitted = {key: decode(value, arrays) for key, value in header["attributes"].items()}
    check_model(header["class"], parameters, fitted)
    model: Mixture = getattr(fastgmm, header["class"])(**parameters)
    for key, value in fitted.items():
        setattr(model, key, value)
    return model
