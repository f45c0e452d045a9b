"""The settings of a stack, in one table, and the client that they configure.

The environment comes first, then the stack's config, then the default: `refresh` and `destroy` get the
config of the last `up`, which may hold a token that has been rotated since.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

import coreweave_inference as api
from coreweave_inference.retry import RetryPolicy
from coreweave_inference.settings import (
    DEFAULT_ENDPOINT,
    DEFAULT_TIMEOUT,
    ENDPOINT_VARIABLE,
    TIMEOUT_VARIABLE,
    parse_duration,
    validate_endpoint,
    validate_timeout,
)
from coreweave_inference.tokens import (
    TOKEN_FILE_VARIABLE,
    TOKEN_VARIABLES,
    Token,
    TokenFile,
    validate_token,
)

from ._version import __version__
from .errors import InvalidSetting
from .inputs import PATCHABLE_BY_DEFAULT, RESOURCE_FIELDS

if TYPE_CHECKING:
    from coreweave_inference import AsyncClient, Client

_CLOSE: Final = 0.85  # of difflib: one wrong, missing or extra letter in ten
USER_AGENT: Final = f"pulumi-coreweave-inference/{__version__}"


@dataclass(frozen=True)
class Settings:
    """The settings of one stack. All durations are in seconds."""

    token: str | TokenFile | None = field(default=None, repr=False)
    endpoint: str = DEFAULT_ENDPOINT
    timeout: float = DEFAULT_TIMEOUT
    """The limit of each attempt."""
    retry_deadline: float = 120.0
    """How long to retry a failing call."""
    delete_timeout: float = 20 * 60.0
    """How long to wait for a deletion; the same as CoreWeave's own provider."""
    read_grace: float = 20.0
    """How long to read a claim again while responses are stale."""
    patchable: tuple[str, ...] = PATCHABLE_BY_DEFAULT
    """The fields of `resources` that the API changes in place."""
    catalogue: Literal["error", "warn", "off"] | None = None
    """The check of zones and types; None is like "error", but an outage is only a warning."""
    overwrite: bool = False
    """Whether to overwrite changes made outside of Pulumi without a refresh."""
    orphans: Literal["refuse", "leave"] = "refuse"
    """Whether a stack can be destroyed while claims that it created exist outside of its state."""
    wait: bool = True
    """Whether the program waits for claims to become ready; false is `readiness=None` for all of them."""
    skipped_checkpoints: Literal["refuse", "allow"] = "refuse"
    """Whether to create claims while the engine writes the state at the end of an update only."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("Settings hold the API token and cannot be pickled or copied")

    @property
    def retry(self) -> RetryPolicy:
        """The retry policy of calls to the API."""
        return RetryPolicy(deadline=self.retry_deadline)

    def client(self, sleep: Callable[[float], object] | None = None) -> Client:
        """A client of the API with these settings; `sleep` is how it pauses before it repeats an attempt."""
        return api.Client(
            self.token,
            endpoint=self.endpoint,
            timeout=self.timeout,
            retry=self.retry,
            user_agent=USER_AGENT,
            sleep=sleep,
        )

    def polling_client(self) -> AsyncClient:
        """A client for a poller, which repeats its reads itself: each call is a single attempt."""
        return api.AsyncClient(
            self.token,
            endpoint=self.endpoint,
            timeout=self.timeout,
            retry=RetryPolicy(deadline=0),
            user_agent=USER_AGENT,
        )


def _one_of(*names: str) -> Callable[[str], str]:
    def parse(given: str) -> str:
        if given not in names:
            listed = " or ".join([", ".join(names[:-1]), names[-1]])
            raise ValueError(f"must be {listed}, not {given!r}")
        return given

    return parse


def _boolean(given: str) -> bool:
    if given.lower() not in ("true", "false"):
        raise ValueError(f"must be true or false, not {given!r}")
    return given.lower() == "true"


def _timeout(given: str) -> float:
    return validate_timeout(parse_duration(given))


def _resource_fields(given: str) -> tuple[str, ...]:
    try:
        names = json.loads(given)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(name in RESOURCE_FIELDS for name in names):
        raise ValueError(f"must be a JSON list of {', '.join(RESOURCE_FIELDS)}, not {given!r}")
    return tuple(names)


@dataclass(frozen=True)
class Setting:
    """Where a setting comes from: environment variables, then a key of the stack's config, and its parser."""

    field: str  # of `Settings`, which has the default
    key: str
    variables: tuple[str, ...]
    parse: Callable[[str], Any]

    def given(self, config: Config, environment: Mapping[str, str]) -> tuple[str, str]:
        """The text of the setting, empty if it is not set, and where it comes from."""
        for variable in self.variables:
            if text := environment.get(variable, "").strip():
                return text, variable
        return (config(self.key) or "").strip(), f"coreweave:{self.key}"


Config = Callable[[str], str | None]
"""Looks up a key of the stack's config, without its namespace."""

SETTINGS: Final = (
    Setting("token", "token", (*TOKEN_VARIABLES, TOKEN_FILE_VARIABLE), validate_token),
    Setting("endpoint", "endpoint", (ENDPOINT_VARIABLE,), validate_endpoint),
    Setting("timeout", "httpTimeout", (TIMEOUT_VARIABLE,), _timeout),
    Setting("retry_deadline", "retryDeadline", ("COREWEAVE_RETRY_DEADLINE",), parse_duration),
    Setting("delete_timeout", "deleteTimeout", ("COREWEAVE_DELETE_TIMEOUT",), parse_duration),
    Setting("read_grace", "readGrace", ("COREWEAVE_READ_GRACE",), parse_duration),
    Setting("patchable", "patchableFields", (), _resource_fields),
    Setting("catalogue", "catalogueCheck", ("COREWEAVE_CATALOGUE_CHECK",), _one_of("error", "warn", "off")),
    Setting("overwrite", "overwrite", ("COREWEAVE_OVERWRITE",), _boolean),
    Setting("orphans", "orphans", ("COREWEAVE_ORPHANS",), _one_of("refuse", "leave")),
    Setting("wait", "wait", ("COREWEAVE_WAIT",), _boolean),
    Setting(
        "skipped_checkpoints",
        "skippedCheckpoints",
        ("COREWEAVE_SKIPPED_CHECKPOINTS",),
        _one_of("refuse", "allow"),
    ),
)


def misspelt(keys: Iterable[str]) -> list[str]:
    """A message for each config key, with its namespace, that is a setting in another spelling.

    Other providers may have keys in the same namespace, so a key that is like no setting is left alone.
    """
    known = [setting.key for setting in SETTINGS]
    found = []
    for key in keys:
        namespace, _, name = key.partition(":")
        meant = f"coreweave:{_meant(name, known)}" if namespace.casefold() == "coreweave" else "coreweave:"
        if meant not in ("coreweave:", key):
            found.append(
                f"{key}: is not a setting; did you mean {meant}? `pulumi config rm {shlex.quote(key)}` "
                "removes it"
            )
    return found


def _meant(name: str, known: Sequence[str]) -> str:
    """The setting that a name is, in another spelling; empty if there is none."""
    if name in known:
        return name
    bare = {re.sub("[^a-z0-9]", "", key.lower()): key for key in known}
    given = re.sub("[^a-z0-9]", "", name.lower())
    found = difflib.get_close_matches(given, bare, n=1, cutoff=_CLOSE)
    return bare[found[0]] if found and found[0][0] == given[0] else ""


def settings_from(config: Config, environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of a stack.

    Raises `InvalidSetting`, which names the variable or config key whose value is invalid.
    """
    settings = Settings()
    for setting in SETTINGS:
        text, source = setting.given(config, environment)
        if not text:
            continue
        value: Any
        try:
            value = _token(text, source) if setting.field == "token" else setting.parse(text)
        except ValueError as error:
            reason = str(error)
        else:
            settings = replace(settings, **{setting.field: value})
            continue
        text, environment = "", {}  # the frame of the error would show the token
        raise InvalidSetting(source, reason)
    return settings


def _token(text: str, source: str) -> Token | TokenFile:
    if source != TOKEN_FILE_VARIABLE:
        return validate_token(Token(text, source))
    file = TokenFile(text, source)
    file.read()  # so that a file that holds no token is named now
    return file


def unread_endpoint(settings: Settings, environment: Mapping[str, str] = os.environ) -> str:
    """A warning if CW_BASE_URL names another endpoint than the one in use; empty otherwise.

    CoreWeave's getting-started page exports it (seen 2026-11-27). It is not read, as tools of other companies
    use that name too, and the token must not go to them.
    """
    named = environment.get("CW_BASE_URL", "").strip().rstrip("/")
    if not named or named == settings.endpoint or environment.get(ENDPOINT_VARIABLE, "").strip():
        return ""
    return (
        f"CW_BASE_URL is not read: calls go to {settings.endpoint}. "
        "Set COREWEAVE_API_ENDPOINT to choose the endpoint"
    )


def creation_refused(settings: Settings, environment: Mapping[str, str] = os.environ) -> str:
    """Why no claim may be created in this run; empty if claims may be created.

    The namespace has to be in the state before a claim is posted. The engine's variable prevents that.
    """
    skipped = environment.get("PULUMI_SKIP_CHECKPOINTS", "").lower() in (
        "1",
        "true",
    )  # as the engine reads it
    if not skipped or settings.skipped_checkpoints == "allow":
        return ""
    return (
        "no claim is created while PULUMI_SKIP_CHECKPOINTS is set: if the update is killed, its claims are "
        "in no state, and the next update creates them again. Unset it, or set "
        "COREWEAVE_SKIPPED_CHECKPOINTS=allow to create claims nevertheless"
    )


def program_settings() -> Settings:
    """The settings of the stack whose program is running. Raises `InvalidSetting`."""
    import pulumi  # not needed by the command line

    return settings_from(lambda key: pulumi.runtime.get_config(f"coreweave:{key}"))
