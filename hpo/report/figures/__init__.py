"""Figures: an info tuple is computed first and drawn second, with matplotlib (PNG) and for plotly (HTML).

Figures 1 to 4 of a study and those of a comparison can be drawn both ways, 5 to 8 for plotly alone.
"""

from hpo.report.figures.curves import Curves, training_loss, validation_accuracy, validation_metric
from hpo.report.figures.draw import Info, Still, draw_plotly, draw_png
from hpo.report.figures.fitted_labels import LabelsFitted, labels_fitted
from hpo.report.figures.forest_grid import Forests, forests
from hpo.report.figures.forest_plot import Forest, forest
from hpo.report.figures.history import History, tuning_history
from hpo.report.figures.importance import Importances, importances
from hpo.report.figures.profiles import Profiles, performance_profiles
from hpo.report.figures.slice_plot import Searched, Slices, slices
from hpo.report.figures.slope_plot import Slopes, paired_slopes
from hpo.report.figures.style import BASELINE_COLOUR, COLOURS, Style, assign_styles, shorten

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
