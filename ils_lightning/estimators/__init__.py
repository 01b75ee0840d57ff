"""Gradient estimators for categorical variables, one a file, behind one interface: `Estimator`."""

from ils_lightning.estimators.arm import Arm
from ils_lightning.estimators.arms import Arms
from ils_lightning.estimators.average import Average
from ils_lightning.estimators.base import Estimator, Loss, Pullback, Sampler, evaluate
from ils_lightning.estimators.baselines import Baseline, MovingAverage
from ils_lightning.estimators.bit_flip import BitFlip
from ils_lightning.estimators.dis_arm import DisArm
from ils_lightning.estimators.double_control_variate import DoubleControlVariate
from ils_lightning.estimators.exact import Exact
from ils_lightning.estimators.gumbel_softmax import GumbelSoftmax
from ils_lightning.estimators.ils import ILS
from ils_lightning.estimators.intermediate import Hellinger, IntermediateLoss, KullbackLeibler
from ils_lightning.estimators.leave_one_out import LeaveOneOut
from ils_lightning.estimators.reinforce import Reinforce
from ils_lightning.estimators.reinmax import ReinMax
from ils_lightning.estimators.rodeo import Rodeo
from ils_lightning.estimators.straight_through import StraightThrough
from ils_lightning.estimators.straight_through_gumbel_softmax import StraightThroughGumbelSoftmax

__all__ = [
    "ILS",
    "Arm",
    "Arms",
    "Average",
    "Baseline",
    "BitFlip",
    "DisArm",
    "DoubleControlVariate",
    "Estimator",
    "Exact",
    "GumbelSoftmax",
    "Hellinger",
    "IntermediateLoss",
    "KullbackLeibler",
    "LeaveOneOut",
    "Loss",
    "MovingAverage",
    "Pullback",
    "ReinMax",
    "Reinforce",
    "Rodeo",
    "Sampler",
    "StraightThrough",
    "StraightThroughGumbelSoftmax",
    "evaluate",
]
