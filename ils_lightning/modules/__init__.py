"""LightningModules: one per model; the estimator is an argument."""

from ils_lightning import optimizers, schedulers  # noqa: F401, options may give their classes by bare names
from ils_lightning.modules.base import Charts, DiscreteModule, HasProblem, Problem, Tracked
from ils_lightning.modules.categorical import CategoricalFit
from ils_lightning.modules.code_prior import CodePrior
from ils_lightning.modules.discrete_vae import DiscreteVAE
from ils_lightning.modules.hard_attention import HardAttention
from ils_lightning.modules.hierarchical_vae import HierarchicalVAE
from ils_lightning.modules.imagination_actor import ImaginationActor
from ils_lightning.modules.listops import LatentTree
from ils_lightning.modules.mixture_of_experts import MixtureOfExperts
from ils_lightning.modules.polynomial import PolynomialProgramming
from ils_lightning.modules.prior import LearntPrior, Prior, UniformPrior
from ils_lightning.modules.protocols import (
    HasCodes,
    HasCurve,
    HasEvaluations,
    HasFigures,
    HasHistograms,
    HasSamples,
    HasSummary,
    HasTexts,
    HasWriting,
)
from ils_lightning.modules.relational_inference import RelationalInference, UndirectedRelationalInference
from ils_lightning.modules.relaxed_sudoku import RelaxedSudokuSolver
from ils_lightning.modules.sudoku import SudokuSolver
from ils_lightning.modules.variable_fit import VariableFit
from ils_lightning.modules.vector_quantized_vae import VectorQuantizedVAE
from ils_lightning.modules.world_model import WorldModel

__all__ = [
    "CategoricalFit",
    "Charts",
    "CodePrior",
    "DiscreteModule",
    "DiscreteVAE",
    "HardAttention",
    "HasCodes",
    "HasCurve",
    "HasEvaluations",
    "HasFigures",
    "HasHistograms",
    "HasProblem",
    "HasSamples",
    "HasSummary",
    "HasTexts",
    "HasWriting",
    "HierarchicalVAE",
    "ImaginationActor",
    "LatentTree",
    "LearntPrior",
    "MixtureOfExperts",
    "PolynomialProgramming",
    "Prior",
    "Problem",
    "RelationalInference",
    "RelaxedSudokuSolver",
    "SudokuSolver",
    "Tracked",
    "UndirectedRelationalInference",
    "UniformPrior",
    "VariableFit",
    "VectorQuantizedVAE",
    "WorldModel",
]
