"""The laws an estimator is held to. Each takes what makes a fresh one and raises AssertionError where it is broken."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from ils_lightning.estimators import Estimator, Loss
from ils_lightning.testing.problems import linear, quadratic
from ils_lightning.testing.replicates import problem_for, scores, size

Make = Callable[[], Estimator]
"""What makes a fresh estimator: a class, or a function without arguments."""
EXACT_FOR = ("none", "linear", "quadratic", "all")
"""Classes of losses, each within the next."""


def gradient(estimator: Estimator, logits: Tensor, f: Loss, seed: int = 3, scale: Tensor | float = 1.0) -> Tensor:
    """Returns what the logits receive from `scale` times the loss, with the noise of this seed."""
    torch.manual_seed(seed)
    leaf = logits.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    (scale * estimator(leaf, f)).sum().backward()
    require(leaf.grad is not None, "backward delivers nothing to the logits")
    return leaf.grad if leaf.grad is not None else torch.zeros_like(leaf)


def shapes(make: Make) -> None:
    """Any batch axes, one category or many; loss and gradient have the dtype of the logits and are finite."""
    few, many = ({2: 2}, {}) if make().binary else ({1: 2, 2: 2, 5: 2}, {300: 1})
    for dtype in (torch.float32, torch.float64):
        for batch, widths in (((), few | many), ((3,), few), ((2, 3), few)):
            for categories, latents in widths.items():
                _check_shapes(make().to(dtype), torch.randn(*batch, latents, categories, dtype=dtype))


def _check_shapes(estimator: Estimator, logits: Tensor) -> None:
    f = linear(*logits.shape[-2:]).loss()
    given = f"logits {list(logits.shape)} of {logits.dtype}"
    loss, estimate = estimator.estimate(logits, f)
    for name, value in (("forward", estimator(logits, f)), ("value", estimator.value(logits, f)), ("estimate", loss)):
        require(value.shape == logits.shape[:-2], f"{name} must return a loss [*batch] for {given}: {value.shape}")
        require(value.dtype == logits.dtype, f"the loss of {name} must keep the dtype of {given}: {value.dtype}")
    for name, value in (("backward", gradient(estimator, logits, f)), ("estimate", estimate)):
        require(value.shape == logits.shape, f"the gradient of {name} must be like {given}: {value.shape}")
        require(value.dtype == logits.dtype, f"the gradient of {name} must keep the dtype of {given}: {value.dtype}")
        require(bool(torch.isfinite(value).all()), f"the gradient of {name} must be finite for {given}")
        require(logits.shape[-1] > 1 or bool(value.abs().max() < 1e-6), "one category must get no gradient")


def declarations(make: Make) -> None:
    """The mean of 100 000 estimates is the gradient for the losses that `exact_for` names, and for no others."""
    estimator = make()
    require(
        estimator.unbiased == (estimator.exact_for == "all"), 'unbiased = True goes with exact_for = "all" and no other'
    )
    reach = EXACT_FOR.index(estimator.exact_for)
    for name, least in (("linear", 1), ("quadratic", 2), ("mlp", 3)):
        score = scores(make, name)["gradient"]
        require(
            (score < 1) == (reach >= least),
            f'it declares exact_for = "{estimator.exact_for}", but on the {name} loss the worst component of the mean '
            f"estimate is {score:.3g} times as far from the exact gradient as chance allows",
        )


def losses(make: Make) -> None:
    """Of a hard estimator, the mean loss is the expectation and a parameter inside f gets its gradient."""
    found = scores(make, "mlp")
    for name in ("loss", "theta") if make().hard else ():
        require(
            found[name] < 1,
            f"it declares hard = True, but the mean {name} is {found[name]:.3g} times as far off as chance allows",
        )
    require(make().hard or found["loss"] > 1, "it declares hard = False, but its loss is that of exact draws")


def scale(make: Make) -> None:
    """A factor on a row's loss is one on its gradient."""
    problem = problem_for(make(), "mlp")
    logits = problem.logits.expand(4, -1, -1)
    plain = gradient(make().double(), logits, problem.loss())
    for factors in ([1e-3] * 4, [65536.0] * 4, [1.0, 0.5, -2.0, 1e-3]):
        c = torch.tensor(factors, dtype=torch.float64)
        scaled = gradient(make().double(), logits, problem.loss(), scale=c)
        close = torch.allclose(scaled, c[:, None, None] * plain, rtol=1e-9, atol=1e-12)
        require(close, f"{factors} times the loss of four rows must give as many times their gradient")


def rows(make: Make) -> None:
    """Unless it declares `pooled`, a row's gradient does not depend on the other rows, given the noise."""
    problem = problem_for(make(), "mlp")
    logits = problem.logits.expand(4, -1, -1).clone()
    others, factor = logits + torch.randn_like(logits), torch.tensor([1.0, 7.0, -3.0, 0.5])
    others[0] = logits[0]
    alone = gradient(make().double(), logits, problem.loss())
    among = gradient(make().double(), others, lambda z: factor.to(z) * problem.base(z))
    require(
        make().pooled or torch.allclose(among[0], alone[0]),
        "it declares pooled = False, but a row's gradient changes with the other rows",
    )


def evaluations(make: Make) -> None:
    """The loss is evaluated as often as `evaluations` says."""
    estimator = make().double()
    problem = problem_for(estimator, "mlp")
    seen: list[int] = []

    def counted(z: Tensor) -> Tensor:
        seen.append(z.numel() // problem.logits.numel())
        return problem.base(z)

    estimator(problem.logits.expand(6, -1, -1).clone().requires_grad_(), counted).sum().backward()
    declared = estimator.evaluations(*problem.logits.shape)
    require(sum(seen) == 6 * declared, f"evaluations says {declared} of each row; there were {sum(seen) / 6:g}")


def state(make: Make) -> None:
    """Evaluation leaves the state as it is, and an estimator goes on from its saved state as it would have done."""
    estimator = make().double()
    problem = problem_for(estimator, "mlp")
    logits, f = problem.logits.expand(4, -1, -1), problem.loss()
    estimator.build(*problem.logits.shape)
    gradient(estimator, logits, f)
    before = copy.deepcopy(estimator.state_dict())
    gradient(estimator.eval(), logits, f)
    estimator.train().value(logits, f)
    for name, value in estimator.state_dict().items():
        require(torch.equal(value, before[name]), f"eval() and value must leave {name} as it is")
    restored = make().double()
    restored.build(*problem.logits.shape)
    restored.load_state_dict(before)
    same = torch.allclose(gradient(restored, logits, f), gradient(estimator, logits, f))
    require(same, "loaded from its state_dict, it must go on like the original")


def edges(make: Make) -> None:
    """Logits of 1e4 either way and masks of -inf give finite gradients, masked categories none."""
    latents, categories = size(make())
    f = quadratic(latents, categories).loss()
    for dtype in (torch.float32, torch.float64):
        logits = 1e4 * (torch.rand(6, latents, categories, dtype=dtype) - 0.5).sign()
        found = gradient(make().to(dtype), logits, f)
        require(bool(torch.isfinite(found).all()), f"logits of 1e4 either way must give finite gradients in {dtype}")
    if not make().binary:
        masked = torch.randn(6, latents, categories, dtype=torch.float64)
        masked[..., -2:] = -float("inf")
        found = gradient(make().double(), masked, f)
        good = torch.isfinite(found).all() and (found[..., -2:] == 0).all()
        require(bool(good), "categories masked by -inf must get no gradient, the others a finite one")


def refusals(make: Make) -> None:
    """Bad input is a ValueError: a loss of the wrong shape, logits that are NaN."""
    problem = problem_for(make(), "mlp")
    logits = problem.logits.expand(4, -1, -1).clone().requires_grad_()
    broken = logits.detach().clone()
    broken[2, 1] = float("nan")
    for what, x, f in (
        ("a loss that is one number for all rows", logits, lambda z: z.sum()),
        ("logits with NaN", broken.requires_grad_(), problem.loss()),
    ):
        try:
            make().double()(x, f)
        except ValueError:
            continue
        raise AssertionError(f"{what} must be a ValueError")


def require(holds: bool, rule: str) -> None:
    """Raises an AssertionError that says which rule was broken."""
    if not holds:
        raise AssertionError(rule)
