"""Pictures of mixtures with matplotlib: densities, clusters, EM at work, the choice of a model.

Each function draws on the ``ax`` it is given, or on a new figure, and returns what it drew on. None
shows a figure or changes matplotlib's settings. Colours are those of Okabe and Ito, which
colour-blind eyes tell apart; line styles and markers say the same a second time.
"""

from ._clusters import clusters
from ._density import density
from ._em import animate_em, em
from ._selection import selection

__all__ = ["animate_em", "clusters", "density", "em", "selection"]
