"""Which API is talked to, as whom: the settings of a stack and the client made of them.

The environment comes first, then the stack's config, then the default: `refresh` and `destroy` get the
config of the last `up`, which may hold a token that has been rotated since.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import coreweave_inference as api
from coreweave_inference.errors import InvalidEndpoint, InvalidToken
from coreweave_inference.retry import RetryPolicy
from coreweave_inference.settings import (
    DEFAULT_ENDPOINT,
    DEFAULT_TIMEOUT,
    TIMEOUT_VARIABLE,
    endpoint_from,
    parse_duration,
    token_from,
    token_variable,
    validate_endpoint,
    validate_timeout,
    validate_token,
)

from ._version import __version__
from .errors import InvalidSetting
from .inputs import PATCHABLE_BY_DEFAULT, RESOURCE_FIELDS

if TYPE_CHECKING:
    from coreweave_inference import Client

USER_AGENT: Final = f"pulumi-coreweave-inference/{__version__}"
DELETE_TIMEOUT: Final = 20 * 60.0  # seconds; CoreWeave's own provider waits as long for a deletion
RETRY_DEADLINE: Final = 120.0  # seconds an API call is repeated for before it fails
CATALOGUE_DEADLINE: Final = 5.0  # seconds after which a preview asks no more what is offered
READ_GRACE: Final = 20.0  # seconds a claim is looked at again while reads are behind what is known of it


@dataclass(frozen=True)
class Settings:
    """What a stack says about the API. All durations are in seconds."""

    token: str | None = field(default=None, repr=False)
    endpoint: str = DEFAULT_ENDPOINT
    timeout: float = DEFAULT_TIMEOUT
    retry_deadline: float = RETRY_DEADLINE
    delete_timeout: float = DELETE_TIMEOUT
    read_grace: float = READ_GRACE
    patchable: tuple[str, ...] = PATCHABLE_BY_DEFAULT
    catalogue: Literal["error", "warn", "off"] | None = None  # None: like "error", but an outage only warns
    overwrite: bool = False  # whether a foreign change may be written over without a refresh
    orphans: Literal["refuse", "leave"] = "refuse"  # whether a stack may end while claims it made live on

    @property
    def retry(self) -> RetryPolicy:
        """For how long a call is repeated when the network or the API fails."""
        return RetryPolicy(deadline=self.retry_deadline)

    def client(self) -> Client:
        """A client of the API, as these settings say."""
        return api.Client(
            self.token,
            endpoint=self.endpoint,
            timeout=self.timeout,
            retry=self.retry,
            user_agent=USER_AGENT,
        )


def settings_from(
    config: Callable[[str], str | None], environment: Mapping[str, str] = os.environ
) -> Settings:
    """The settings of a stack; `config` looks up a key of the stack's config, without its namespace.

    Raises `InvalidSetting`, which names the variable or config key that cannot be understood.
    """
    return Settings(
        token=_token(config, environment),
        endpoint=_endpoint(config, environment),
        timeout=_duration(
            "httpTimeout", config, environment, DEFAULT_TIMEOUT, TIMEOUT_VARIABLE, validate_timeout
        ),
        retry_deadline=_duration("retryDeadline", config, environment, RETRY_DEADLINE),
        delete_timeout=_duration("deleteTimeout", config, environment, DELETE_TIMEOUT),
        read_grace=_duration("readGrace", config, environment, READ_GRACE),
        patchable=_patchable(config),
        catalogue=_catalogue(config, environment),
        overwrite=_truth("overwrite", config, environment),
        orphans=_orphans(config, environment),
    )


def program_settings() -> Settings:
    """The settings of the stack whose program is running. Raises `InvalidSetting`."""
    import pulumi  # not needed by the command line

    return settings_from(lambda key: pulumi.runtime.get_config(f"coreweave:{key}"))


def _token(config: Callable[[str], str | None], environment: Mapping[str, str]) -> str | None:
    given, source = token_from(environment), token_variable(environment) or "coreweave:token"
    if given is None:
        given = (config("token") or "").strip()
    try:
        return validate_token(given) if given else None
    except InvalidToken as error:
        raise InvalidSetting(source, str(error)) from None


def _endpoint(config: Callable[[str], str | None], environment: Mapping[str, str]) -> str:
    given, source = endpoint_from(environment), "COREWEAVE_API_ENDPOINT"
    if given is None:
        given, source = config("endpoint"), "coreweave:endpoint"
    if not given:
        return DEFAULT_ENDPOINT
    try:
        return validate_endpoint(given)
    except InvalidEndpoint as error:
        raise InvalidSetting(source, str(error)) from None


def _duration(
    key: str,
    config: Callable[[str], str | None],
    environment: Mapping[str, str],
    default: float,
    variable: str | None = None,
    valid: Callable[[float], float] = float,
) -> float:
    given, source = _given(key, config, environment, variable)
    if not given:
        return default
    try:
        return valid(parse_duration(given))
    except ValueError as error:
        raise InvalidSetting(source, str(error)) from None


def _catalogue(
    config: Callable[[str], str | None], environment: Mapping[str, str]
) -> Literal["error", "warn", "off"] | None:
    given, source = _given("catalogueCheck", config, environment)
    match given:
        case None | "":
            return None
        case "error" | "warn" | "off":
            return given
    raise InvalidSetting(source, f"must be error, warn or off, not {given!r}")


def _orphans(
    config: Callable[[str], str | None], environment: Mapping[str, str]
) -> Literal["refuse", "leave"]:
    given, source = _given("orphans", config, environment)
    match given:
        case None | "":
            return "refuse"
        case "refuse" | "leave":
            return given
    raise InvalidSetting(source, f"must be refuse or leave, not {given!r}")


def _truth(key: str, config: Callable[[str], str | None], environment: Mapping[str, str]) -> bool:
    given, source = _given(key, config, environment)
    if given and given.lower() not in ("true", "false"):
        raise InvalidSetting(source, f"must be true or false, not {given!r}")
    return (given or "").lower() == "true"


def _given(
    key: str,
    config: Callable[[str], str | None],
    environment: Mapping[str, str],
    variable: str | None = None,
) -> tuple[str | None, str]:
    """What is given for a setting, the environment first, and where."""
    variable = variable or _variable(key)
    return (
        (environment[variable], variable) if environment.get(variable) else (config(key), f"coreweave:{key}")
    )


def _variable(key: str) -> str:
    return "COREWEAVE_" + "".join(f"_{c}" if c.isupper() else c.upper() for c in key)


def _patchable(config: Callable[[str], str | None]) -> tuple[str, ...]:
    given = config("patchableFields")
    if not given:
        return PATCHABLE_BY_DEFAULT
    try:
        names = json.loads(given)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(name in RESOURCE_FIELDS for name in names):
        raise InvalidSetting(
            "coreweave:patchableFields",
            f"must be a JSON list of {', '.join(RESOURCE_FIELDS)}, not {given!r}",
        )
    return tuple(names)
