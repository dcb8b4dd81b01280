"""Data shipped with the package."""

from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

__all__ = ["load_faithful"]


def load_faithful() -> NDArray[np.float64]:
    """Load the Old Faithful eruptions.

    272 eruptions of the Old Faithful geyser in Yellowstone National Park, Wyoming, USA.

    Returns
    -------
    X : ndarray of shape (272, 2)
        Duration of each eruption and the waiting time to the next one, both in minutes.

    References
    ----------
    Azzalini, A. and Bowman, A. W. (1990). A look at some data on the Old Faithful geyser.
    *Applied Statistics* 39, 357-365.

    Examples
    --------
    >>> from fastgmm.data import load_faithful
    >>> load_faithful().shape
    (272, 2)
    """
    with files(__name__).joinpath("faithful.csv").open(encoding="utf-8") as file:
        return np.loadtxt(file, delimiter=",", skiprows=1, usecols=(1, 2))
