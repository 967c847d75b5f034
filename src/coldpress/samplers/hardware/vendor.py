"""The vendor's client: found, connected and waited for, its many errors told as one kind that says what to do.

The token comes from the vendor's own configuration (`dwave config create`, or the environment's DWAVE_API_TOKEN); it
is looked at only to tell that it is missing, and to keep it out of messages.
"""

from __future__ import annotations

import concurrent.futures
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import dimod

from coldpress.errors import ColdpressError, HardwareError

logger = logging.getLogger("coldpress.samplers.hardware")

_GLANCE = 0.05  # seconds between looks whether the reads are there
_NO_TOKEN = (
    "no token for D-Wave's service is configured: run `dwave config create`, or set DWAVE_API_TOKEN; without an "
    "account, mock-pegasus and mock-zephyr simulate a QPU"
)


def need(module: str) -> Any:
    """Import a module of the extra `dwave`.

    Raises:
        HardwareError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise HardwareError(f"{module} is not installed: pip install 'coldpress[dwave]'") from error


def check_token() -> None:
    """Look whether a token is configured; nothing is sent.

    Raises:
        HardwareError: there is none, the configuration cannot be read, or the extra is not installed.
    """
    if not _configured().get("token"):
        raise HardwareError(_NO_TOKEN)


def connect_qpu(name: str | None = None) -> Any:
    """A `DWaveSampler`: the QPU called ``name``, or the one that the configuration prefers.

    Raises:
        HardwareError: no extra, no token, no network, or no such QPU.
    """
    system = need("dwave.system")
    check_token()
    asked = {"solver": {"name": name}} if name else {}
    with told(f"QPU {name}" if name else "a QPU"):
        return system.DWaveSampler(**asked)


def connect_hybrid(kind: str, name: str | None = None) -> Any:
    """The vendor's hybrid sampler ``kind``: "LeapHybridSampler" or "LeapHybridCQMSampler".

    Raises:
        HardwareError: no extra, no token, no network, or no such solver.
    """
    system = need("dwave.system")
    check_token()
    asked = {"solver": {"name": name}} if name else {}
    with told(f"hybrid solver {name}" if name else "a hybrid solver"):
        return getattr(system, kind)(**asked)


@contextmanager
def told(what: str) -> Iterator[None]:
    """Raise the vendor's errors within as HardwareError: what was asked, what happened, what to do."""
    try:
        yield
    except ColdpressError:
        raise
    except Exception as error:
        advice = _advice(error)
        if advice is None:
            raise
        raise HardwareError(f"{what}: {_without_token(str(error))} ({type(error).__name__}): {advice}") from None


def wait(samples: dimod.SampleSet, seconds: float, what: str) -> dimod.SampleSet:
    """The samples, once they are there.

    Raises:
        HardwareError: they are not after so many seconds, or the vendor refused or failed; the message has the
            problem's id, by which the vendor keeps them.
    """
    end = time.perf_counter() + seconds
    try:
        with told(what):
            while not samples.done():
                if time.perf_counter() >= end:
                    raise HardwareError(
                        f"{what}: no answer within {seconds:.3g} s{_known_as(samples)}: give a longer time_limit; "
                        "what is queued may still be carried out, and charged"
                    )
                time.sleep(min(_GLANCE, seconds))
            samples.resolve()
    except KeyboardInterrupt:
        logger.warning("%s: not waited for any longer%s", what, _known_as(samples))
        raise
    return samples


def _known_as(samples: dimod.SampleSet) -> str:
    """The problem's id in words, where it is known by now."""
    try:
        name = samples.wait_id(timeout=0)
    except Exception:  # no id yet: each version of the client says so by another error
        name = None
    return f" (problem {name}: its reads can still be fetched from the vendor by this id)" if name else ""


def _configured() -> dict[str, Any]:
    """The vendor's configuration: file, profile, environment. Its parser's own words may quote the token."""
    config = need("dwave.cloud.config")
    try:
        return dict(config.load_config())
    except Exception as error:
        raise HardwareError(
            f"D-Wave's configuration cannot be read ({type(error).__name__}): see `dwave config inspect`"
        ) from None


def _without_token(words: str) -> str:
    """The words with the token blotted out, should it be in them."""
    try:
        token = str(_configured().get("token") or "")
    except HardwareError:
        token = ""
    return words.replace(token, "***") if token else words


def _advice(error: Exception) -> str | None:
    """What to do about an error of the vendor's client or of the network; None for any other."""
    cloud, api = need("dwave.cloud.exceptions"), need("dwave.cloud.api.exceptions")
    network = need("requests.exceptions")
    known: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
        ((api.ResourceAuthenticationError,), "the token is refused; get the present one, then `dwave config create`"),
        ((cloud.SolverOfflineError,), "it is offline; wait, or name another"),
        ((api.ResourceNotFoundError,), "`dwave solvers --list --all` shows the names that your token may use"),
        (
            (api.ResourceAccessForbiddenError, api.ResourceLimitsExceededError),
            "your account may not, or not any more; see its quota on the vendor's page",
        ),
        (
            (cloud.PollingTimeout, concurrent.futures.TimeoutError, concurrent.futures.CancelledError),
            "the answer did not come in time; give a longer time_limit",
        ),
        (
            (api.RequestTimeout, network.ConnectionError, network.Timeout, cloud.ProblemUploadError),
            "the vendor's service cannot be reached; is there a network, and no proxy between?",
        ),
        ((cloud.InvalidProblemError,), "the solver does not take this model; look at it with `coldpress embed`"),
        ((api.RequestError, network.RequestException), "the vendor's service failed; try again later"),
        ((cloud.CanceledFutureError, cloud.UseAfterCloseError), "the request was given up; try again"),
        ((ValueError,), "the vendor's client does not take this; change what it names"),
    )
    return next((advice for kinds, advice in known if isinstance(error, kinds)), None)
