"""Gradient estimators for categorical variables, one a file, behind one interface: `Estimator`."""

from ils_lightning.estimators.adaptive_implicit_mle import AdaptiveImplicitMLE
from ils_lightning.estimators.arm import Arm
from ils_lightning.estimators.arms import Arms
from ils_lightning.estimators.arsm import Arsm
from ils_lightning.estimators.average import Average
from ils_lightning.estimators.base import Estimator, Loss, evaluate
from ils_lightning.estimators.baselines import Baseline, MovingAverage, NetworkBaseline
from ils_lightning.estimators.bit_flip import BitFlip
from ils_lightning.estimators.daps import Daps
from ils_lightning.estimators.decoupled_straight_through_gumbel_softmax import DecoupledStraightThroughGumbelSoftmax
from ils_lightning.estimators.dis_arm import DisArm
from ils_lightning.estimators.dis_arm_tree import DisArmTree
from ils_lightning.estimators.double_control_variate import DoubleControlVariate
from ils_lightning.estimators.dr_grpo import DrGrpo
from ils_lightning.estimators.entmax_marginal import EntmaxMarginal
from ils_lightning.estimators.exact import Exact
from ils_lightning.estimators.gapped_straight_through import GappedStraightThrough
from ils_lightning.estimators.grouped import Grouped
from ils_lightning.estimators.grpo import Grpo
from ils_lightning.estimators.gumbel_rao import GumbelRao
from ils_lightning.estimators.gumbel_softmax import GumbelSoftmax
from ils_lightning.estimators.ils import ILS
from ils_lightning.estimators.ils_cv import ILSCV
from ils_lightning.estimators.ils_diagonal import ILSDiagonal
from ils_lightning.estimators.ils_isotropic import ILSIsotropic
from ils_lightning.estimators.ils_joint import ILSJoint
from ils_lightning.estimators.ils_leave_one_out import ILSLeaveOneOut
from ils_lightning.estimators.ils_low_rank import ILSLowRank
from ils_lightning.estimators.ils_newton import ILSNewton
from ils_lightning.estimators.ils_residual import ILSResidual
from ils_lightning.estimators.ils_tempered import ILSTempered
from ils_lightning.estimators.ils_tempered_diagonal import ILSTemperedDiagonal
from ils_lightning.estimators.implicit_mle import ImplicitMLE
from ils_lightning.estimators.intermediate import Hellinger, IntermediateLoss, KullbackLeibler
from ils_lightning.estimators.latin_hypercube import LatinHypercube
from ils_lightning.estimators.leave_one_out import LeaveOneOut
from ils_lightning.estimators.local_expectation import LocalExpectation
from ils_lightning.estimators.minimum_variance import MinimumVariance
from ils_lightning.estimators.mu_prop import MuProp
from ils_lightning.estimators.perceptron import Perceptron
from ils_lightning.estimators.rebar import Rebar
from ils_lightning.estimators.redge import Redge
from ils_lightning.estimators.redge_cov import RedgeCov
from ils_lightning.estimators.reinforce import Reinforce
from ils_lightning.estimators.reinmax import ReinMax
from ils_lightning.estimators.reinmax_cv import ReinMaxCV
from ils_lightning.estimators.reinmax_rao import ReinMaxRao
from ils_lightning.estimators.relax import Relax
from ils_lightning.estimators.rodeo import Rodeo
from ils_lightning.estimators.sampler import Pullback, Sampler
from ils_lightning.estimators.sparse_mixer import SparseMixer
from ils_lightning.estimators.sparse_mixer_v2 import SparseMixerV2
from ils_lightning.estimators.sparse_mixer_v2_star import SparseMixerV2Star
from ils_lightning.estimators.sparsemax_marginal import SparsemaxMarginal
from ils_lightning.estimators.straight_through import StraightThrough
from ils_lightning.estimators.straight_through_gumbel_softmax import StraightThroughGumbelSoftmax
from ils_lightning.estimators.sum_and_sample import SumAndSample
from ils_lightning.estimators.top_k_reinmax import TopKReinMax
from ils_lightning.estimators.top_k_subset import TopKSubset
from ils_lightning.estimators.unordered_set import UnorderedSet
from ils_lightning.estimators.var_grad import VarGrad
from ils_lightning.estimators.vimco import Vimco

__all__ = [
    "ILS",
    "ILSCV",
    "AdaptiveImplicitMLE",
    "Arm",
    "Arms",
    "Arsm",
    "Average",
    "Baseline",
    "BitFlip",
    "Daps",
    "DecoupledStraightThroughGumbelSoftmax",
    "DisArm",
    "DisArmTree",
    "DoubleControlVariate",
    "DrGrpo",
    "EntmaxMarginal",
    "Estimator",
    "Exact",
    "GappedStraightThrough",
    "Grouped",
    "Grpo",
    "GumbelRao",
    "GumbelSoftmax",
    "Hellinger",
    "ILSDiagonal",
    "ILSIsotropic",
    "ILSJoint",
    "ILSLeaveOneOut",
    "ILSLowRank",
    "ILSNewton",
    "ILSResidual",
    "ILSTempered",
    "ILSTemperedDiagonal",
    "ImplicitMLE",
    "IntermediateLoss",
    "KullbackLeibler",
    "LatinHypercube",
    "LeaveOneOut",
    "LocalExpectation",
    "Loss",
    "MinimumVariance",
    "MovingAverage",
    "MuProp",
    "NetworkBaseline",
    "Perceptron",
    "Pullback",
    "Rebar",
    "Redge",
    "RedgeCov",
    "ReinMax",
    "ReinMaxCV",
    "ReinMaxRao",
    "Reinforce",
    "Relax",
    "Rodeo",
    "Sampler",
    "SparseMixer",
    "SparseMixerV2",
    "SparseMixerV2Star",
    "SparsemaxMarginal",
    "StraightThrough",
    "StraightThroughGumbelSoftmax",
    "SumAndSample",
    "TopKReinMax",
    "TopKSubset",
    "UnorderedSet",
    "VarGrad",
    "Vimco",
    "evaluate",
]
