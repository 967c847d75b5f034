"""Search with the model in the loop: samplers for Optuna studies."""

from coldpress.search.qiea import QIEASampler

__all__ = ["QIEASampler"]
