"""The emulator that runs, found by the variables that it printed when it was started."""

from __future__ import annotations

import http.client
import os
import re
from collections.abc import Callable
from typing import Final, TypeVar

from pydantic import ValidationError

from coreweave_inference import InvalidEndpoint
from coreweave_inference.emulator import EmulatorControl
from coreweave_inference.emulator.control import ControlTokenRefused
from coreweave_inference.settings import ENDPOINT_VARIABLE, endpoint_from, validate_endpoint
from pulumi_coreweave_inference.cli.console import CommandError

CONTROL_VARIABLE: Final = "COREWEAVE_EMULATOR_CONTROL_TOKEN"
_PRINTED: Final = "run the export lines that `capacity-claims emulator` printed"
_Answer = TypeVar("_Answer")


class RunningEmulator:
    """The emulator at the endpoint of the environment. Every error is a `CommandError` of one line."""

    def __init__(self) -> None:
        """Find the emulator. A server that is not one never gets the control token."""
        self._url = _endpoint()
        self._control = EmulatorControl(self._url, _control_token())
        if not self.ask(EmulatorControl.is_emulator):
            raise CommandError(f"{self._url} is not an emulator; {_PRINTED}")

    def ask(self, call: Callable[[EmulatorControl], _Answer]) -> _Answer:
        """Make one call."""
        try:
            return call(self._control)
        except ControlTokenRefused:
            problem = f"the emulator at {self._url} does not accept {CONTROL_VARIABLE}; {_PRINTED}"
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            problem = f"no emulator responds at {self._url}: {reason}"
        except (ValidationError, TypeError):
            problem = f"the emulator at {self._url} answers differently; is it of another version?"
        except (ValueError, LookupError, RuntimeError) as error:
            problem = f"the emulator at {self._url}: {error.args[0] if error.args else error}"
        raise CommandError(problem)


def _endpoint() -> str:
    endpoint = endpoint_from()
    if endpoint is None:
        raise CommandError(f"{ENDPOINT_VARIABLE} is not set; {_PRINTED}")
    try:
        return validate_endpoint(endpoint)
    except InvalidEndpoint as error:
        raise CommandError(f"{ENDPOINT_VARIABLE}: {error}") from None


def _control_token() -> str:
    token = os.environ.get(CONTROL_VARIABLE, "").strip()
    if not token:
        raise CommandError(f"{CONTROL_VARIABLE} is not set; {_PRINTED}")
    if not re.fullmatch("[!-~]+", token):
        raise CommandError(f"{CONTROL_VARIABLE}: must be visible ASCII characters, as in an HTTP header")
    return token
