"""Why rows are outliers, as numbers and as a table to read."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_NAMED = 3  # features of a row in the printed table


@dataclass(frozen=True, eq=False)
class Explanation:
    """What `GaussianMixtureOutlierDetector.explain` found; ``print`` shows it as a table.

    Attributes
    ----------
    decision : ndarray of shape (n_samples,)
        The decision function; negative: outlier.
    component : ndarray of shape (n_samples,), int64
        The component that each row most probably belongs to.
    distance : ndarray of shape (n_samples,)
        Mahalanobis distance from that component, in standard deviations.
    contributions : ndarray of shape (n_samples, n_features)
        What each feature adds to the square of the distance.
    feature_names : tuple of str
        Names of the features; ``x0``, ``x1``, ... where the data had none.
    """

    decision: Array
    component: NDArray[np.int64]
    distance: Array
    contributions: Array
    feature_names: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.decision)

    def to_frame(self) -> Any:
        """Return a ``pandas.DataFrame``: decision, component, distance, then the features.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("to_frame needs pandas: pip install pandas") from error
        summary = {
            "decision": self.decision,
            "component": self.component,
            "distance": self.distance,
        }
        features = pd.DataFrame(self.contributions, columns=list(self.feature_names))
        return pd.concat([pd.DataFrame(summary), features], axis=1)

    def __str__(self) -> str:
        lines = ["row  decision  component  distance  largest contributions to distance²"]
        order = np.argsort(-self.contributions, axis=1, kind="stable")[:, :_NAMED]
        for i, features in enumerate(order):
            named = ", ".join(
                f"{self.feature_names[j]} {self.contributions[i, j]:.4g}" for j in features
            )
            lines.append(
                f"{i:3d}  {self.decision[i]:8.4g}  {self.component[i]:9d}  "
                f"{self.distance[i]:8.4g}  {named}"
            )
        return "\n".join(lines)
