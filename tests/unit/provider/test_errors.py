"""The errors a person sees: each kind has words of its own and says what to do next."""

from __future__ import annotations

import pickle
from datetime import datetime, timedelta, timezone

import pytest

from coreweave_inference import (
    Aborted,
    ApiError,
    ConnectionFailed,
    CoreweaveError,
    FailedPrecondition,
    FieldViolation,
    InvalidArgument,
    MissingToken,
    NotFound,
    PermissionDenied,
    ProxyFailed,
    RequestTimedOut,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    UntrustedCertificate,
)
from coreweave_inference import InvalidSetting as UnusableSetting
from pulumi_coreweave_inference import ClaimError, InvalidSetting
from pulumi_coreweave_inference.errors import api_failure, lookup_failure


@pytest.mark.parametrize(
    ("error", "headline", "then"),
    [
        (MissingToken(), "there is no API token", "set COREWEAVE_API_TOKEN"),
        (ConnectionFailed("refused"), "the API cannot be reached", "nothing is done twice"),
        (UnusableSetting("SSL_CERT_FILE: no"), "a setting of this machine cannot be used", "correct it"),
        (UntrustedCertificate("expired"), "the certificate of the endpoint is not trusted", "SSL_CERT_FILE"),
        (ProxyFailed("407"), "the proxy does not connect to the API", "NO_PROXY"),
        (RequestTimedOut("slow"), "the API did not respond in time", "set COREWEAVE_HTTP_TIMEOUT"),
        (Unauthenticated("no"), "the API does not accept the token", "a token that is still valid"),
        (PermissionDenied("no"), "the token lacks the required role", "Inference Admin"),
        (InvalidArgument("no"), "the API refused the request as invalid", "change the declaration"),
        (FailedPrecondition("no"), "the claim's current state does not allow it", "may be in use"),
        (ResourceExhausted("no"), "a quota or rate limit of the API is exhausted", "nothing is done twice"),
        (ResourceExhausted("no", retry_after=90.4), "a quota or rate limit", "wait 90 seconds"),
        (NotFound("no"), "the API does not know the claim", "`pulumi refresh`"),
        (Unavailable("no"), "the API is not available", "nothing is done twice"),
        (Aborted("no"), "the API responded with an error", "`pulumi refresh`"),
    ],
)
def test_each_kind_of_error_says_what_happened_and_what_to_do(
    error: CoreweaveError, headline: str, then: str
) -> None:
    told = str(api_failure("creating", "training", "id-1", error, held="nothing new."))
    first, *rest = told.splitlines()
    assert first.startswith(f"creating capacity claim 'training' (id id-1) failed: {headline}")
    assert "  Still reserved: nothing new." in rest
    assert then in told.partition("Next: ")[2]
    assert headline in str(lookup_failure("looking it up", error))


def refusal(source: str, until: datetime | None = None) -> Unauthenticated:
    error = Unauthenticated("token expired")
    error.token_source, error.accepted_until = source, until
    return error


@pytest.mark.parametrize(
    ("source", "advice"),
    [
        ("CW_API_TOKEN", "set CW_API_TOKEN to a valid token"),
        ("COREWEAVE_API_TOKEN_FILE", "write a valid token to the file that COREWEAVE_API_TOKEN_FILE names"),
        (
            "coreweave:token",
            "set COREWEAVE_API_TOKEN, which takes precedence over coreweave:token, to a valid token",
        ),
    ],
)
def test_a_refused_token_is_named_by_where_it_comes_from(source: str, advice: str) -> None:
    told = str(lookup_failure("reading", refusal(source)))
    assert told.startswith("reading failed: the API does not accept the token.")
    assert told.endswith(f"Next: {advice}, then run the same command again; nothing is done twice")


def test_a_token_that_has_expired_says_until_when_it_was_accepted() -> None:
    until = datetime(2026, 11, 27, 23, 10, 3, tzinfo=timezone(timedelta(hours=1)))
    told = str(lookup_failure("reading", refusal("CW_API_TOKEN", until))).splitlines()
    assert told[0] == "reading failed: the API no longer accepts the token."
    assert "  the token from CW_API_TOKEN was accepted until 22:10:03 UTC" in told


def test_what_the_api_said_stands_there_in_the_programs_spelling() -> None:
    error = InvalidArgument(
        "bad request",
        violations=(FieldViolation("resources.instanceId", "is not offered"),),
        request_id="r-1",
        attempts=3,
    )
    told = str(api_failure("scaling", "training", None, error, held=""))
    assert "  invalid_argument: bad request\n" in told
    assert "  resources.instance_id: is not offered\n" in told
    assert "  (3 attempts, request id r-1)\n" in told
    assert "Held" not in told


def test_an_error_without_a_message_is_told_by_its_code() -> None:
    assert "\n  unavailable\n  (1 attempt)\n" in str(lookup_failure("reading", Unavailable()))
    assert isinstance(lookup_failure("reading", ApiError()), ClaimError)


def test_a_setting_that_cannot_be_understood_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(InvalidSetting("coreweave:endpoint", "is empty")))
    assert (error.source, error.reason, str(error)) == (
        "coreweave:endpoint",
        "is empty",
        "coreweave:endpoint: is empty",
    )
