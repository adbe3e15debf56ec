"""The built-in regularizers by name."""

from hpo.objective import Regularizer
from hpo.regularizers.clipping import clip_global, clip_sample
from hpo.regularizers.gam import gam, gam_adaptive, gam_paper
from hpo.regularizers.gnvr import gnvr
from hpo.regularizers.gvr import gvr, gvr_independent, gvr_over
from hpo.regularizers.none import none
from hpo.regularizers.rogc import rogc
from hpo.regularizers.sam import asam, sam
from hpo.regularizers.sgsc import sgsc
from hpo.regularizers.vasso import vasso

_EVERY = (
    *(none, sam, asam, vasso, gam, gam_paper, gam_adaptive, gvr, gvr_independent),
    *(gnvr, sgsc, clip_global, clip_sample, rogc),
)
REGULARIZERS: dict[str, Regularizer] = {regularizer.name: regularizer for regularizer in _EVERY}

__all__ = ["REGULARIZERS", "gvr_over"]
