"""Variables that are not categorical, by what they have of one, or by an intermediate loss of their own.

A `Variable` (Bernoulli, Binomial, Ordinal) maps its parameter to categorical logits and draws to values, so that any
estimator works on it. A `NaturalFamily` (Gaussian, Poisson, Binomial, Bernoulli) has the intermediate loss in closed
form: `ILSNatural` needs no categories. A `VariableEstimator` takes the parameter and a loss of values: `ILSNatural`,
`LeaveOneOutNatural`, `Reparameterised`, `Summed` and, with a categorical estimator inside, `OfCategories`.
"""

from ils_lightning.variables.bernoulli import Bernoulli
from ils_lightning.variables.binomial import Binomial
from ils_lightning.variables.gaussian import Gaussian
from ils_lightning.variables.ils_natural import ILSNatural
from ils_lightning.variables.law import Law
from ils_lightning.variables.leave_one_out_natural import LeaveOneOutNatural
from ils_lightning.variables.natural_family import NaturalFamily
from ils_lightning.variables.of_categories import OfCategories
from ils_lightning.variables.ordinal import Ordinal
from ils_lightning.variables.poisson import Poisson
from ils_lightning.variables.reparameterised import Reparameterised
from ils_lightning.variables.summed import Summed
from ils_lightning.variables.variable import Variable
from ils_lightning.variables.variable_estimator import VariableEstimator

__all__ = [
    "Bernoulli",
    "Binomial",
    "Gaussian",
    "ILSNatural",
    "Law",
    "LeaveOneOutNatural",
    "NaturalFamily",
    "OfCategories",
    "Ordinal",
    "Poisson",
    "Reparameterised",
    "Summed",
    "Variable",
    "VariableEstimator",
]
