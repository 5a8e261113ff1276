"""How many samples resolve a threshold: one-sided 95 % bounds that hold it in 80 % of all runs where they should."""

from __future__ import annotations

import math

CONFIDENCE, POWER = 0.95, 0.80
Z95 = 1.6448536269514722
Z80 = 0.8416212335729143
"""Normal quantiles of both."""
SQUARED = (Z95 + Z80) ** 2
"""6.18."""


def paired(discordant_share: float, margin: float) -> int:
    """Items answered by both sides until a loss of `margin` (a share of all items) is ruled out where there is none.

    A pair counts only where one side is right and the other wrong: `discordant_share` of all items. Two separate
    samples would need 2 p (1 - p) in its place, several times as many.
    """
    return math.ceil(SQUARED * discordant_share / margin**2)


def share(limit: float, true: float) -> int:
    """Samples until a share that is `true` is shown to lie on its side of `limit`."""
    spread = Z95 * math.sqrt(limit * (1 - limit)) + Z80 * math.sqrt(true * (1 - true))
    return math.ceil((spread / (limit - true)) ** 2)


def mean(variation: float, against: float) -> int:
    """Samples until a mean of `against` times its limit is shown to lie below it; `variation` = standard deviation over
    mean of one sample."""
    return math.ceil(SQUARED * (variation * against / (1 - against)) ** 2)


def log_ratio(divergence: float, limit: float) -> int:
    """Tokens until a ratio of perplexities of one is shown to lie below `limit`.

    The log-probabilities of one token differ with a variance of twice the mean KL `divergence`, to second order.
    """
    return math.ceil(SQUARED * 2 * divergence / math.log(limit) ** 2)
