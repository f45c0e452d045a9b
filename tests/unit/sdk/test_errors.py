"""The exceptions: their tree, their text, and what pickling keeps."""

import pickle
import re

import coreweave_inference
from coreweave_inference import (
    ConnectionFailed,
    CoreweaveError,
    FieldViolation,
    InvalidArgument,
    MissingToken,
    UnknownCode,
    WrongEndpoint,
    errors,
)

# google.rpc.Code, by number
CODES = [
    "canceled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
]


def test_the_message_is_one_line_with_all_details() -> None:
    error = InvalidArgument(
        "bad\nrequest",
        http_status=400,
        violations=(FieldViolation("resources.zones", "must not be empty"),),
        request_id="r-1",
        attempts=3,
        operation="create",
        claim_id="9f0c",
        retry_after=12.4,
    )
    assert str(error) == (
        "create of claim 9f0c: invalid_argument: bad request (resources.zones: must not be empty;"
        " HTTP 400; the API asks to wait 12 s; request id r-1; 3 attempts)"
    )
    assert repr(error) == f"<InvalidArgument {error}>"


def test_an_error_survives_pickling_with_all_its_fields() -> None:
    error = ConnectionFailed("x", attempts=2, operation="get", claim_id="9f0c")
    error.sent = False
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is ConnectionFailed
    assert vars(copy) == vars(error)


def test_a_missing_token_error_names_every_way_to_set_one() -> None:
    for name in ("COREWEAVE_API_TOKEN", "CW_API_TOKEN", "pulumi config set --secret coreweave:token"):
        assert name in str(MissingToken())
    assert str(pickle.loads(pickle.dumps(MissingToken()))) == str(MissingToken())


def test_the_tree_in_the_docstring_matches_the_classes() -> None:
    drawn: dict[str, str | None] = {}
    path: list[str] = []
    codes: dict[str, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        match = re.fullmatch(r" {4}([ │├└─]*)([A-Z]\w+)(?: +(.*))?", line)
        if match is None:
            continue
        depth = len(match[1]) // 4
        del path[depth:]
        drawn[match[2]] = path[-1] if path else None
        path.append(match[2])
        if (code := (match[3] or "").split(" ")[0]) in CODES:
            codes[match[2]] = code
    real = {
        one.__name__: one.__mro__[1].__name__
        for one in vars(errors).values()
        if isinstance(one, type) and issubclass(one, CoreweaveError) and one is not CoreweaveError
    }
    assert drawn == {"CoreweaveError": None, **real}
    assert codes.items() <= {name: getattr(errors, name).CODE for name in drawn if name in codes}.items()
    assert set(CODES) - set(codes.values()) == {"unknown"}


def test_every_exception_is_exported_from_module_and_package() -> None:
    classes = {
        name
        for name, one in vars(errors).items()
        if isinstance(one, type) and issubclass(one, CoreweaveError)
    }
    assert classes <= set(errors.__all__)
    assert classes <= set(coreweave_inference.__all__)


def test_what_the_api_sent_controls_no_terminal() -> None:
    odd = "\x1b]0;title\x07 \u202egnp. \x9b2J\nNext"
    error = UnknownCode(odd, code=odd, violations=(FieldViolation(odd, odd),), request_id=odd)
    assert str(error).isprintable()
    assert repr(error).isprintable()
    assert (error.code, error.message) == (odd, odd), "what was received is kept"
    assert str(WrongEndpoint(odd)).isprintable()
