"""The built-in regularizers by name."""

from hpo.optim.regularizer import Regularizer
from hpo.optim.regularizers.clipping import clip_global, clip_sample
from hpo.optim.regularizers.gam import gam, gam_adaptive, gam_paper
from hpo.optim.regularizers.gnvr import gnvr
from hpo.optim.regularizers.gvr import gvr, gvr_independent, gvr_over
from hpo.optim.regularizers.none import none
from hpo.optim.regularizers.rogc import rogc
from hpo.optim.regularizers.sam import asam, sam
from hpo.optim.regularizers.sgsc import sgsc
from hpo.optim.regularizers.vasso import vasso

_SAM_FAMILY = (sam, asam, vasso, gam, gam_paper, gam_adaptive)
_OTHERS = (gvr, gvr_independent, gnvr, sgsc, clip_global, clip_sample, rogc)
REGULARIZERS: dict[str, Regularizer] = {regularizer.name: regularizer for regularizer in (none, *_SAM_FAMILY, *_OTHERS)}

__all__ = ["REGULARIZERS", "gvr_over"]
