"""Gradient estimators for categorical variables, one a file, behind one interface: `Estimator`."""

from ils_lightning.estimators.arsm import Arsm
from ils_lightning.estimators.average import Average
from ils_lightning.estimators.base import Estimator, Loss, Pullback, Sampler, evaluate
from ils_lightning.estimators.baselines import Baseline, MovingAverage, NetworkBaseline
from ils_lightning.estimators.dis_arm_tree import DisArmTree
from ils_lightning.estimators.exact import Exact
from ils_lightning.estimators.gumbel_softmax import GumbelSoftmax
from ils_lightning.estimators.ils import ILS
from ils_lightning.estimators.intermediate import Hellinger, IntermediateLoss, KullbackLeibler
from ils_lightning.estimators.leave_one_out import LeaveOneOut
from ils_lightning.estimators.mu_prop import MuProp
from ils_lightning.estimators.perceptron import Perceptron
from ils_lightning.estimators.rebar import Rebar
from ils_lightning.estimators.reinforce import Reinforce
from ils_lightning.estimators.reinmax import ReinMax
from ils_lightning.estimators.relax import Relax
from ils_lightning.estimators.straight_through import StraightThrough
from ils_lightning.estimators.straight_through_gumbel_softmax import StraightThroughGumbelSoftmax
from ils_lightning.estimators.sum_and_sample import SumAndSample
from ils_lightning.estimators.unordered_set import UnorderedSet
from ils_lightning.estimators.var_grad import VarGrad
from ils_lightning.estimators.vimco import Vimco

__all__ = [
    "ILS",
    "Arsm",
    "Average",
    "Baseline",
    "DisArmTree",
    "Estimator",
    "Exact",
    "GumbelSoftmax",
    "Hellinger",
    "IntermediateLoss",
    "KullbackLeibler",
    "LeaveOneOut",
    "Loss",
    "MovingAverage",
    "MuProp",
    "NetworkBaseline",
    "Perceptron",
    "Pullback",
    "Rebar",
    "ReinMax",
    "Reinforce",
    "Relax",
    "Sampler",
    "StraightThrough",
    "StraightThroughGumbelSoftmax",
    "SumAndSample",
    "UnorderedSet",
    "VarGrad",
    "Vimco",
    "evaluate",
]
