"""Variables that are not categorical, by what they have of one, or by an intermediate loss of their own.

A `Variable` (Bernoulli, Binomial, Ordinal) maps its parameter to categorical logits and draws to values, so that any
estimator works on it. A `NaturalFamily` (Gaussian, Poisson, Binomial, Bernoulli) has the intermediate loss in closed
form: `ILSNatural` needs no categories.
"""

from ils_lightning.variables.bernoulli import Bernoulli
from ils_lightning.variables.binomial import Binomial
from ils_lightning.variables.gaussian import Gaussian
from ils_lightning.variables.ils_natural import ILSNatural
from ils_lightning.variables.natural_family import NaturalFamily
from ils_lightning.variables.ordinal import Ordinal
from ils_lightning.variables.poisson import Poisson
from ils_lightning.variables.variable import Variable

__all__ = [
    "Bernoulli",
    "Binomial",
    "Gaussian",
    "ILSNatural",
    "NaturalFamily",
    "Ordinal",
    "Poisson",
    "Variable",
]
