"""The built-in regularizers by name."""

from hpo.objective import Regularizer
from hpo.regularizers.clipping import clip_global, clip_sample
from hpo.regularizers.gnvr import gnvr
from hpo.regularizers.none import none
from hpo.regularizers.rogc import rogc
from hpo.regularizers.sgsc import sgsc

REGULARIZERS: dict[str, Regularizer] = {
    regularizer.name: regularizer for regularizer in (none, gnvr, sgsc, clip_global, clip_sample, rogc)
}
