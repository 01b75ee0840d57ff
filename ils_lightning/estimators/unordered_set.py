"""Estimating Gradients for Discrete Random Variables by Sampling without Replacement.

Kool, van Hoof and Welling, 2020, 2002.06043.

    T = S distinct configurations, drawn without replacement from p(z), D all of them
    P_A(U) = probability that drawing |U| times without replacement from p on A gives the set U
    R(s) = P_{D-s}(T-s) / P_D(T),   R_s(s') = P_{D-s-s'}(T-s-s') / P_{D-s}(T-s)
    B_s = p(s) f(s) + sum_{s' in T-s} p(s') R_s(s') f(s')
    loss = sum_{s in T} p(s) R(s) f(s);   estimate = sum_{s in T} p(s) R(s) (f(s) - B_s) (s - pi)

Unbiased. With several latents the set is drawn from the joint space of all of them.
"""

from itertools import combinations

import torch
from torch import Tensor

from ils_lightning.errors import Refusal
from ils_lightning.estimators import joint
from ils_lightning.estimators.base import Estimator, Loss, evaluate
from ils_lightning.estimators.categorical import gumbel, softmax


class UnorderedSet(Estimator):
    """REINFORCE on distinct draws, averaged over the orders in which the set could have been drawn.

    Args:
        samples: distinct configurations a row, 2 to 12 (1 without the baseline); all of them if there are fewer.
        baseline: subtracts B_s, the loss that the rest of the set predicts; does not always lower the variance.
        limit: largest joint space, categories ** latents; beyond it a ValueError is raised.

    Example:
        >>> import torch
        >>> logits = torch.zeros(4, 1, 3, requires_grad=True)
        >>> UnorderedSet(samples=3)(logits, lambda z: z[..., 0].sum(-1)).sum().backward()
        >>> logits.grad[0, 0]
        tensor([ 0.2222, -0.1111, -0.1111])
    """

    source = "Kool et al. 2020, 2002.06043"
    equation = r"""
        T &= S \text{ distinct configurations, drawn without replacement from } p, \quad D \text{ all of them} \\
        R(s) &= \frac{P_{D - s}(T - s)}{P_D(T)} \\
        R_s(s') &= \frac{P_{D - s - s'}(T - s - s')}{P_{D - s}(T - s)} \\
        B_s &= p(s) f(s) + \sum_{s' \in T - s} p(s') R_s(s') f(s') \\
        \hat\nabla &= \sum_{s \in T} p(s) R(s) \left(f(s) - B_s\right) (s - \pi)
    """
    cost = "min(S, K^L)"
    unbiased = True
    exact_for = "all"

    def __init__(self, samples: int = 4, baseline: bool = True, limit: int = 2**16) -> None:
        super().__init__()
        least = 2 if baseline else 1
        if not least <= self.whole("samples", samples, least=samples) <= 12:
            raise Refusal(
                f"UnorderedSet: samples must be {least} to 12 (the baseline of a draw comes from the others, and all "
                f"2 ** samples subsets are weighed); given {samples}"
            )
        if limit < 1:
            raise Refusal(f"UnorderedSet: limit must be at least 1; given {limit}")
        self.samples, self.baseline, self.limit = samples, baseline, limit

    def evaluations(self, latents: int, categories: int) -> int:
        return min(self.samples, categories**latents)

    def estimate(self, logits: Tensor, f: Loss) -> tuple[Tensor, Tensor]:
        joint.check_size("UnorderedSet", logits, self.limit)
        theta = logits.detach()
        pi = softmax(theta)
        log_p, rest, index = self._draw(joint.log_prob(theta), self.evaluations(*theta.shape[-2:]))
        log_r, log_r_pairs = ratios(log_p, rest)
        z = joint.configurations(index, pi)
        score = z - pi
        f_z = evaluate(f, z.to(logits.dtype))
        weight = (log_p + log_r).exp()
        advantage = f_z.detach().double()
        if self.baseline:
            advantage = advantage - torch.einsum("st...,t...->s...", (log_p + log_r_pairs).exp(), advantage)
        estimate = ((weight * advantage)[..., None, None] * score).sum(dim=0)
        return (weight.to(f_z.dtype) * f_z).sum(dim=0), estimate.to(logits.dtype)

    @staticmethod
    def _draw(log_p: Tensor, samples: int) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities `[samples, *batch]`, log of the mass left outside `[*batch]`, numbers `[samples, *batch]`.

        Where fewer configurations than `samples` are possible, copies of a possible one fill up, with probability zero.
        """
        index = (log_p + gumbel(log_p)).topk(samples, dim=-1).indices
        drawn = log_p.gather(-1, index)
        rest = log_p.scatter(-1, index, float("-inf")).logsumexp(dim=-1)
        index = torch.where(drawn > float("-inf"), index, index[..., :1])
        return drawn.movedim(-1, 0), rest, index.movedim(-1, 0)


def ratios(log_p: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
    """Log R(s) `[S, *batch]` and log R_s(s') `[S, S, *batch]` (0 on the diagonal, where B_s takes p(s) itself).

    W(U), the probability that the draws from D - (T - U) give the set U, answers all of them: by recursion over the
    last draw left to be made, W(U) = sum_{u in U} p_u / (rest + p(U)) W(U - u).
    """
    samples = len(log_p)
    # if impossible members are in T, nothing possible is outside and W is 1 whatever their probabilities are
    log_p = log_p.masked_fill(log_p == float("-inf"), 0)
    everything = 2**samples - 1
    log_w = log_p.new_zeros((everything + 1, *log_p.shape[1:]))
    for size in range(1, samples + 1):
        members = torch.tensor(list(combinations(range(samples), size)), device=log_p.device)
        subset = (1 << members).sum(dim=-1)
        p = log_p[members]
        steps = (p + log_w[subset.unsqueeze(-1) - (1 << members)]).logsumexp(dim=1)
        log_w[subset] = steps - torch.logaddexp(rest, p.logsumexp(dim=1))
    single = 1 << torch.arange(samples, device=log_p.device)
    without = log_w[everything - single]
    pairs = (everything - single.unsqueeze(-1) - single).clamp(min=0)
    log_r_pairs = log_w[pairs] - without.unsqueeze(1)
    diagonal = torch.eye(samples, dtype=torch.bool, device=log_p.device).reshape(samples, samples, *[1] * rest.dim())
    return without - log_w[everything], log_r_pairs.masked_fill(diagonal, 0)
