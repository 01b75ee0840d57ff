"""Deliberate mistakes in the package's own estimators, each a few characters, and the law that must see it.

`PATCHES` maps what was done to where and how: a function, its text before and after, what makes an estimator that runs
through it, and the law (`formula` with the slow forms, or one of `LAWS`).
"""

from patching import Patch

from ils_lightning.estimators import (
    ILSCV,
    AdaptiveImplicitMLE,
    Arm,
    Arms,
    Arsm,
    BitFlip,
    DisArm,
    DisArmTree,
    DoubleControlVariate,
    GappedStraightThrough,
    GumbelRao,
    ILSDiagonal,
    ILSIsotropic,
    ILSJoint,
    ILSLowRank,
    ILSNewton,
    ILSResidual,
    ILSTempered,
    ImplicitMLE,
    LeaveOneOut,
    MinimumVariance,
    MovingAverage,
    MuProp,
    Rebar,
    Reinforce,
    ReinMax,
    ReinMaxCV,
    Rodeo,
    SparsemaxMarginal,
    StraightThrough,
    StraightThroughGumbelSoftmax,
    SumAndSample,
    TopKSubset,
    UnorderedSet,
    VarGrad,
    Vimco,
    categorical,
    family,
    gumbel_rao,
    ils_cv,
    ils_low_rank,
    minimum_variance,
    relaxation,
    top_k_subset,
)
from ils_lightning.estimators.dis_arm_tree import walk
from ils_lightning.estimators.tempered import Tempered


def averaged() -> Reinforce:
    return Reinforce(baseline=MovingAverage())


PATCHES = {
    # state
    "ILSNewton's ridge pulls H to 0": Patch(ILSNewton, ILSNewton.inverse, "torch.addcmul(S, r * eta, C)", "S"),
    "ILSDiagonal ignores decay": Patch(ILSDiagonal, ILSDiagonal.learn, "self.past * self.D", "self.D"),
    "ILSDiagonal divides by the smaller": Patch(ILSDiagonal, ILSDiagonal.learn, "amax", "amin"),
    "ILSIsotropic's wrong trace": Patch(ILSIsotropic, ILSIsotropic.observe, "(pi * (1 - pi))", "pi"),
    "moving sums forget nothing": Patch(ILSJoint, family.Learnt.learn, "alpha=self.past", "alpha=1"),
    "MovingAverage pulled to zero": Patch(
        averaged, MovingAverage.forward, "self.average / self.weight.clamp(min=1e-30)", "self.average"
    ),
    "ILSResidual's kappa is one": Patch(
        ILSResidual,
        ILSResidual._residual,
        "kappa = torch.where(square > 0, covariance /",
        "kappa = torch.where(square > 0, square /",
    ),
    "AdaptiveImplicitMLE adapts the wrong way": Patch(
        lambda: AdaptiveImplicitMLE(rate=0.3),
        AdaptiveImplicitMLE._adapt,
        "self.target - self.moved",
        "self.moved - self.target",
    ),
    # signs
    "ReinMax's last term added": Patch(
        lambda: ReinMax(temperature=1.3), ReinMax.pullback, "- jacobian(pi, g) / 2", "+ jacobian(pi, g) / 2"
    ),
    "ARM's noise flipped": Patch(Arm, Arm.weight, "(u - 0.5)", "(0.5 - u)"),
    "REBAR's second slope added": Patch(
        Rebar, relaxation.controlled, "pathwise - conditional", "pathwise + conditional"
    ),
    "ILSLowRank sees its own draw": Patch(
        lambda: ILSLowRank(rank=2), ils_low_rank.features, "each.sum(dim=0) - each", "each.sum(dim=0).expand_as(each)"
    ),
    "ILSLowRank's sums do not turn along": Patch(
        lambda: ILSLowRank(rank=2), ILSLowRank.learn, "Y @ M, M.mT @ C @ M", "Y, C"
    ),
    "ILSJoint adds the other latents' probabilities": Patch(ILSJoint, ILSJoint.rearranged, "alpha=-1", "alpha=1"),
    "I-MLE steps up": Patch(
        lambda: ImplicitMLE(scale=1.0), ImplicitMLE.pullback, "perturbed - step * g", "perturbed + step * g"
    ),
    # factors and normalisers
    "half of the curvature's diagonal": Patch(ILSNewton, family.Read.__init__, "self.diagonal / 2", "self.diagonal"),
    "the base's normaliser": Patch(ILSNewton, family.M_s_at, " / (1 + s**2)", ""),
    "DisARM's half": Patch(DisArm, DisArm.weight, " / 2", ""),
    "VIMCO's mean over S": Patch(Vimco, Vimco._without_each, "(self.samples - 1)", "self.samples"),
    "VarGrad's variance over S": Patch(VarGrad, VarGrad.estimate, ".div(self.samples - 1)", ".div(self.samples)"),
    "ARMS without its factor": Patch(Arms, Arms._factor, " / (1 - shared)", ""),
    "one latent's flip counts once": Patch(BitFlip, BitFlip.estimate, "p.shape[-1] * chosen", "chosen"),
    "symmetric difference over one step": Patch(
        AdaptiveImplicitMLE, AdaptiveImplicitMLE.pullback, "0.5 / step", "1 / step"
    ),
    "MVE's diagonal": Patch(
        lambda: MinimumVariance(penalty=1.0), minimum_variance._scaled_jacobian, "s + 2 * t * pi", "s + t * pi"
    ),
    "DisARM-Tree's smaller probability": Patch(DisArmTree, walk, "torch.maximum", "torch.minimum"),
    "sum and sample without the mass": Patch(
        SumAndSample,
        SumAndSample._choose,
        "torch.cat((top.values, mass), -1)",
        "torch.cat((top.values, mass.ceil()), -1)",
    ),
    # temperatures
    "ReinMax's temperature multiplies": Patch(
        lambda: ReinMax(temperature=1.3), ReinMax.pullback, "logits / per_row", "logits * per_row"
    ),
    "straight-through without 1/tau": Patch(
        lambda: StraightThrough(temperature=1.3), StraightThrough.pullback, "g) / tau", "g)"
    ),
    "Gumbel-softmax's temperature multiplies": Patch(
        StraightThroughGumbelSoftmax, StraightThroughGumbelSoftmax.sample, "perturbed / per_row", "perturbed * per_row"
    ),
    "Gumbel-Rao without 1/tau": Patch(GumbelRao, gumbel_rao.rao, "dim=0)) / tau", "dim=0))"),
    "the tempered mean at temperature one": Patch(ILSTempered, Tempered.stepped, "e.sub_(Hq)", "e.sub_(Hp)"),
    # what is subtracted, counted or taken twice
    "no baseline": Patch(LeaveOneOut, LeaveOneOut.estimate, "(loss - loss.mean(dim=0))", "loss"),
    "sparsemax without its centre": Patch(SparsemaxMarginal, SparsemaxMarginal.estimate, "mean - centre", "mean"),
    "ARSM's mean over the wrong axis": Patch(Arsm, Arsm.estimate, "1 / theta.shape[-1] - v", "1 / theta.shape[-2] - v"),
    "MuProp forgets the mean's gradient": Patch(MuProp, MuProp.estimate, " + eta * jacobian(pi, slope)", ""),
    "REBAR's control variate at full weight": Patch(
        lambda: Rebar(eta=0.7), relaxation.controlled, "- eta * c[..., None", "- c[..., None"
    ),
    "double control variate taken twice": Patch(
        lambda: DoubleControlVariate(coefficient=-0.7),
        DoubleControlVariate.estimate,
        "- a * slope.mean",
        "- 2 * a * slope.mean",
    ),
    "RODEO's surrogates crossed": Patch(
        lambda: Rodeo(hidden=8),
        Rodeo._surrogates,
        "return h[..., 0, :], h[..., 1:, :]",
        "return h[..., 0, :].flip(-1), h[..., 1:, :].flip(-1)",
    ),
    "unordered set unweighted": Patch(
        UnorderedSet, UnorderedSet.estimate, "(weight * advantage)[..., None, None]", "advantage[..., None, None]"
    ),
    "ILSCV's own row in the norm": Patch(
        ILSCV, ils_cv._coefficient, "sums[3], d, d, value=-1", "sums[3], d, d, value=0"
    ),
    "ReinMax-CV's second Gumbel around the logits": Patch(
        lambda: ReinMaxCV(resamples=3), ReinMaxCV.pullback, "rao(theta_d, z, g, tau, 1)", "rao(logits, z, g, tau, 1)"
    ),
    "gap on the drawn logit": Patch(
        GappedStraightThrough, GappedStraightThrough._gapped, "top - self._width", "top + self._width"
    ),
    "k-subsets' covariance without what was passed": Patch(
        lambda: TopKSubset(size=2), top_k_subset.covariance, "taken_behind + taken", "taken"
    ),
    # draws of another law, which the formulas do not see
    "draws not from pi": Patch(
        StraightThrough, categorical._placed, "u * (cumulative", "u * u * (cumulative", "losses"
    ),
    "ARMS draws independently of p": Patch(Arms, Arms._draw, "u < p, u > q", "u < p, u > p", "losses"),
    "set drawn without noise": Patch(UnorderedSet, UnorderedSet._draw, "log_p + gumbel(log_p)", "log_p", "losses"),
}
