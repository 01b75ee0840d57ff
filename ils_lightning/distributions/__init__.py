"""Categorical variables as `torch.distributions` has them, whose `rsample` is any pathwise estimator's draw.

    from ils_lightning.distributions import OneHotCategorical as OneHotCategoricalStraightThrough

is all that a model changes which uses torch's class. For Pyro there is `ils_lightning.distributions.pyro`.
"""

from ils_lightning.distributions.one_hot_categorical import OneHotCategorical

__all__ = ["OneHotCategorical"]
