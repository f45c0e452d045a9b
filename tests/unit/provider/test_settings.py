"""The settings of a stack: where each comes from, and how a wrong one is told."""

from __future__ import annotations

import contextlib
import copy
import pickle
import traceback
from pathlib import Path

import pytest

from coreweave_inference import Client, TokenFile
from coreweave_inference.settings import DEFAULT_ENDPOINT, DEFAULT_TIMEOUT
from pulumi_coreweave_inference import InvalidSetting
from pulumi_coreweave_inference.settings import SETTINGS, Settings, misspelt, settings_from, unread_endpoint


def read(config: dict[str, str] | None = None, environment: dict[str, str] | None = None) -> Settings:
    return settings_from((config or {}).get, environment or {})


def test_without_any_setting_the_defaults_hold() -> None:
    assert read() == Settings(None, DEFAULT_ENDPOINT, DEFAULT_TIMEOUT, 120.0, 1200.0, 20.0)
    assert read().retry.deadline == 120.0


@pytest.mark.parametrize("settings", [read({"token": "s3cret"}), Settings("s3cret"), Settings()])
def test_settings_are_in_no_pickle_and_show_no_token(settings: Settings) -> None:
    for give in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            give(settings)
    assert "s3cret" not in repr(settings)


def test_a_refused_token_is_in_no_frame() -> None:
    with pytest.raises(InvalidSetting, match="must not include the prefix") as caught:
        settings_from({"token": "Bearer s3cret"}.get, {})
    error: BaseException | None = caught.value
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_filename != __file__:
                assert "s3cret" not in repr(
                    [value for name, value in frame.f_locals.items() if name != "config"]
                )
        error = error.__context__


@pytest.mark.parametrize(
    ("key", "variable", "field", "value", "expected"),
    [
        ("token", "COREWEAVE_API_TOKEN", "token", "t", "t"),
        ("token", "CW_API_TOKEN", "token", "t", "t"),
        ("endpoint", "COREWEAVE_API_ENDPOINT", "endpoint", "https://a.example/", "https://a.example"),
        ("httpTimeout", "COREWEAVE_HTTP_TIMEOUT", "timeout", "1m30s", 90),
        ("retryDeadline", "COREWEAVE_RETRY_DEADLINE", "retry_deadline", "5", 5),
        ("deleteTimeout", "COREWEAVE_DELETE_TIMEOUT", "delete_timeout", "1h", 3600),
        ("readGrace", "COREWEAVE_READ_GRACE", "read_grace", "250ms", 0.25),
        ("catalogueCheck", "COREWEAVE_CATALOGUE_CHECK", "catalogue", "warn", "warn"),
        ("overwrite", "COREWEAVE_OVERWRITE", "overwrite", "True", True),
        ("wait", "COREWEAVE_WAIT", "wait", "false", False),
        (
            "skippedCheckpoints",
            "COREWEAVE_SKIPPED_CHECKPOINTS",
            "skipped_checkpoints",
            "allow",
            "allow",
        ),
    ],
)
def test_a_setting_is_read_from_config_or_environment(
    key: str, variable: str, field: str, value: str, expected: object
) -> None:
    assert getattr(read({key: value}), field) == expected
    assert getattr(read({}, {variable: value}), field) == expected


def test_the_environment_comes_first() -> None:
    config = {"token": "old", "endpoint": "https://old.example", "httpTimeout": "1s", "overwrite": "true"}
    settings = read(
        config,
        {
            "COREWEAVE_API_TOKEN": "new",
            "COREWEAVE_API_ENDPOINT": "https://new.example",
            "COREWEAVE_HTTP_TIMEOUT": "2s",
            "COREWEAVE_OVERWRITE": "false",
        },
    )
    assert (settings.token, settings.endpoint, settings.timeout) == ("new", "https://new.example", 2)
    assert not settings.overwrite


def test_the_fields_that_the_api_patches_are_a_json_list() -> None:
    assert read({"patchableFields": '["instanceCount", "zones"]'}).patchable == ("instanceCount", "zones")
    assert read({"patchableFields": "[]"}).patchable == ()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("endpoint", "http://api.example"),
        ("httpTimeout", "soon"),
        ("retryDeadline", "-1"),
        ("overwrite", "maybe"),
        ("wait", "45m"),
        ("catalogueCheck", "on"),
        ("patchableFields", "zones"),
        ("patchableFields", '"zones"'),
        ("patchableFields", '["color"]'),
    ],
)
def test_a_config_value_that_cannot_be_understood_is_named_by_its_key(key: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match=f"^coreweave:{key}: ") as raised:
        read({key: value})
    assert raised.value.source == f"coreweave:{key}"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("COREWEAVE_API_ENDPOINT", "http://api.example"),
        ("COREWEAVE_HTTP_TIMEOUT", "soon"),
        ("COREWEAVE_READ_GRACE", "later"),
        ("COREWEAVE_OVERWRITE", "1"),
        ("COREWEAVE_CATALOGUE_CHECK", "none"),
    ],
)
def test_a_variable_that_cannot_be_understood_is_named(variable: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match=f"^{variable}: "):
        read({}, {variable: value})


def test_a_token_file_comes_before_the_config_and_is_read_at_once(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    environment = {"COREWEAVE_API_TOKEN_FILE": str(file)}
    assert read({"token": "config"}, environment).token == TokenFile(str(file), "COREWEAVE_API_TOKEN_FILE")
    assert read({}, environment | {"CW_API_TOKEN": "two"}).token == "two"
    file.unlink()
    with pytest.raises(InvalidSetting, match=r"^COREWEAVE_API_TOKEN_FILE: the token file .* cannot be read"):
        read({}, environment)


@pytest.mark.parametrize("name", ["COREWEAVE_HTTP_TIMEOUT", "COREWEAVE_OVERWRITE"])
def test_no_frame_of_another_setting_shows_the_token(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("COREWEAVE_API_TOKEN", "s3cret")
    monkeypatch.setenv(name, "soon")
    for fail in (lambda: settings_from(lambda key: None), Client):
        if fail is Client and name != "COREWEAVE_HTTP_TIMEOUT":
            continue
        with pytest.raises(ValueError if fail is Client else InvalidSetting) as caught:
            fail()
        for frame, _ in traceback.walk_tb(caught.value.__traceback__):
            if frame.f_code.co_filename != __file__:
                for value in frame.f_locals.values():
                    with contextlib.suppress(AttributeError):  # a client that was never complete has no repr
                        assert "s3cret" not in repr(value)


@pytest.mark.parametrize("value", ["https://staging.example", "https://user:s3cret@x.example", "nonsense"])
def test_a_base_url_that_is_not_read_is_named_without_its_value(value: str) -> None:
    warning = unread_endpoint(read({}), {"CW_BASE_URL": value})
    assert warning.startswith("CW_BASE_URL is not read: calls go to https://api.coreweave.com.")
    assert value not in warning


def test_a_base_url_that_changes_nothing_is_not_mentioned() -> None:
    assert not unread_endpoint(read({}), {"CW_BASE_URL": "https://api.coreweave.com/"})
    assert not unread_endpoint(read({}), {"CW_BASE_URL": " "})
    chosen = {"COREWEAVE_API_ENDPOINT": "https://mine.example"}
    assert not unread_endpoint(read({}, chosen), chosen | {"CW_BASE_URL": "https://x.example"})


def test_the_token_is_in_no_representation() -> None:
    assert "s3cret" not in repr(read({"token": "s3cret"}))


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("coreweave:retryDeadLine", "retryDeadline"),
        ("coreweave:retry_deadline", "retryDeadline"),
        ("coreweave:RETRY-DEADLINE", "retryDeadline"),
        ("coreweave:retryDedline", "retryDeadline"),
        ("coreweave:deletTimeout", "deleteTimeout"),
        ("coreweave:catalogCheck", "catalogueCheck"),
        ("coreweave:patchablefields", "patchableFields"),
        ("coreweave:Token", "token"),
        ("coreweave:endpiont", "endpoint"),
        ("coreweave:orphan", "orphans"),
        ("CoreWeave:wait", "wait"),
        ("coreweave:skippedCheckpoint", "skippedCheckpoints"),
    ],
)
def test_a_misspelt_key_is_refused_with_the_right_spelling(key: str, meant: str) -> None:
    (message,) = misspelt(["aws:region", "coreweave:wait", key])
    assert message.startswith(f"{key}: is not a setting; did you mean coreweave:{meant}? `pulumi config rm ")


def test_the_right_spelling_and_keys_of_others_are_left_alone() -> None:
    assert misspelt(f"coreweave:{setting.key}" for setting in SETTINGS) == []
    others = [
        "s3Endpoint",
        "region",
        "zone",
        "timeout",
        "organization",
        "retries",
        "tokenFile",
        "",
        "::",
        "é",
    ]
    keys = [*(f"coreweave:{name}" for name in others), "claims:retryDeadLine", "retryDeadLine", ""]
    assert misspelt(keys) == []
