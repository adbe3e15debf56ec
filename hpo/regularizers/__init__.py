"""The built-in regularizers by name."""

from hpo.objective import Regularizer
from hpo.regularizers.clipping import clip_global, clip_sample
from hpo.regularizers.gam import gam
from hpo.regularizers.gnvr import gnvr
from hpo.regularizers.gvr import gvr, gvr_over
from hpo.regularizers.none import none
from hpo.regularizers.rogc import rogc
from hpo.regularizers.sam import sam
from hpo.regularizers.sgsc import sgsc
from hpo.regularizers.vasso import vasso

REGULARIZERS: dict[str, Regularizer] = {
    regularizer.name: regularizer
    for regularizer in (none, sam, vasso, gam, gvr, gnvr, sgsc, clip_global, clip_sample, rogc)
}

__all__ = ["REGULARIZERS", "gvr_over"]
