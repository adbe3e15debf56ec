"""Figures: an info tuple is computed first and drawn second, with matplotlib (PNG) and for plotly (HTML).

Figures 1 to 4 of a study and those of a comparison can be drawn both ways, 5 to 8 for plotly alone.
"""

from hpo.figures.curves import Curves, training_loss, validation_accuracy, validation_metric
from hpo.figures.differences import Forest, forest
from hpo.figures.drawing import Info, Still, draw_plotly, draw_png
from hpo.figures.forests import Forests, forests
from hpo.figures.history import History, tuning_history
from hpo.figures.importance import Importances, importances
from hpo.figures.labels import LabelsFitted, labels_fitted
from hpo.figures.measure import Measure
from hpo.figures.profiles import Profiles, performance_profiles
from hpo.figures.slicing import Searched, Slices, slices
from hpo.figures.slopes import Slopes, paired_slopes
from hpo.figures.style import BASELINE_COLOUR, COLOURS, Style, assign_styles, shorten

__all__ = [
    "BASELINE_COLOUR",
    "COLOURS",
    "Curves",
    "Forest",
    "Forests",
    "History",
    "Importances",
    "Info",
    "LabelsFitted",
    "Measure",
    "Profiles",
    "Searched",
    "Slices",
    "Slopes",
    "Still",
    "Style",
    "assign_styles",
    "draw_plotly",
    "draw_png",
    "forest",
    "forests",
    "importances",
    "labels_fitted",
    "paired_slopes",
    "performance_profiles",
    "shorten",
    "slices",
    "training_loss",
    "tuning_history",
    "validation_accuracy",
    "validation_metric",
]
