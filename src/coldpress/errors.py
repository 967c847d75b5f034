"""What can go wrong on the user's side; every message names the thing, its value, what is allowed and what to do."""


class ColdpressError(Exception):
    """Base of all errors that coldpress raises on purpose."""


class TaskError(ColdpressError):
    """The model, the data or the metric of a task cannot be used as given."""


class SpaceError(ColdpressError):
    """Nothing can be decided in this model, or a name given by the user is not in it."""


class BudgetError(ColdpressError):
    """A budget is malformed, or no plan was found that meets it; ``proved`` says whether there surely is none."""

    def __init__(self, message: str = "", proved: bool = False) -> None:
        super().__init__(message)
        self.proved = proved


class SearchError(ColdpressError, ValueError):
    """A search is set up wrongly, or meets a parameter that its sampler cannot handle."""


class StorageError(SearchError):
    """The storage of a study does not answer any more."""


class SamplerError(ColdpressError, ValueError):
    """A binary quadratic model, or an argument, that a sampler cannot work with."""


class HardwareError(ColdpressError):
    """Quantum hardware, or the service that leads to it, cannot be reached, is too small, or took too long."""


class PlanError(ColdpressError):
    """A plan does not fit the model or the space it is used with."""


class SurgeryError(ColdpressError):
    """A plan could not be carried out on a model."""


class ExportError(ColdpressError):
    """A model could not be exported to, or checked on, the runtime."""


class ArtifactError(ColdpressError):
    """An artifact folder is missing, damaged or cannot be written."""


class CheckpointError(ColdpressError):
    """A weights file is missing, truncated, pickled or does not fit the model."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message that says something."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
