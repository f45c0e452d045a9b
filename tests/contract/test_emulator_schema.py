"""The emulator against two independent descriptions of the API.

A protobuf schema, written here by hand from the published one, decodes every response strictly. It is
itself checked against output of the official encoder. From `openapi.yaml` Schemathesis generates
requests that no test author thought of.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf import timestamp_pb2 as _timestamp
from google.protobuf.message import Message
from hypothesis import settings

from coreweave_inference.emulator import Emulator, EmulatorSettings

HERE = Path(__file__).parent
OFFICIAL = HERE.parent / "data" / "terraform-claims.json"
CLAIMS = "/v1alpha1/inference/capacityclaims"
ID = "79504dc3-e7f7-47f6-bbe2-519ea1fd9e5d"
OTHER = "6ffb9fce-42ae-4638-add8-09ea8e43ce50"

# The published schema

_PACKAGE = "coreweave.inference.v1alpha1"
_STRING, _UINT32, _MESSAGE, _ENUM = 9, 13, 11, 14
_MESSAGES: dict[str, list[tuple[str, int, str, bool]]] = {
    "Resources": [
        ("instance_id", _STRING, "", False),
        ("instance_count", _UINT32, "", False),
        ("capacity_type", _ENUM, "CapacityType", False),
        ("zones", _STRING, "", True),
    ],
    "Spec": [
        ("id", _STRING, "", False),
        ("name", _STRING, "", False),
        ("resources", _MESSAGE, "Resources", False),
        ("organization_id", _STRING, "", False),
    ],
    "Condition": [
        ("type", _STRING, "", False),
        ("status", _ENUM, "ConditionStatus", False),
        ("last_update_time", _MESSAGE, "google.protobuf.Timestamp", False),
        ("reason", _STRING, "", False),
        ("message", _STRING, "", False),
        ("zone", _STRING, "", False),
    ],
    "StatusBlock": [
        ("created_at", _MESSAGE, "google.protobuf.Timestamp", False),
        ("updated_at", _MESSAGE, "google.protobuf.Timestamp", False),
        ("status", _ENUM, "Status", False),
        ("conditions", _MESSAGE, "Condition", True),
        ("allocated_instances", _UINT32, "", False),
        ("pending_instances", _UINT32, "", False),
    ],
    "CapacityClaim": [
        ("spec", _MESSAGE, "Spec", False),
        ("status", _MESSAGE, "StatusBlock", False),
    ],
    "OneClaim": [("capacity_claim", _MESSAGE, "CapacityClaim", False)],
    "ManyClaims": [("capacity_claims", _MESSAGE, "CapacityClaim", True)],
    "InstanceTypes": [("instance_ids", _STRING, "", True)],
    "Parameters": [("zone_instance_types", _MESSAGE, "Parameters.ZoneInstanceTypesEntry", True)],
}
_ENUMS = {
    "CapacityType": {0: "UNSPECIFIED", 2: "CUSTOMER", 3: "MANAGED"},
    "ConditionStatus": {0: "UNSPECIFIED", 1: "FALSE", 2: "TRUE"},
    "Status": dict(
        enumerate(["UNSPECIFIED", "CREATING", "UPDATING", "DELETING", "ERROR", "FAILED", "READY"])
    ),
}


def _schema() -> dict[str, type[Message]]:
    file = descriptor_pb2.FileDescriptorProto(
        name="inference.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=["google/protobuf/timestamp.proto"],
    )
    for name, values in _ENUMS.items():
        # Two enums have values of the same name, so each gets a scope of its own.
        enum = file.message_type.add(name=f"{name}Scope").enum_type.add(name=name)
        prefix = "CAPACITY_TYPE" if name == "CapacityType" else "STATUS"
        for number, value in values.items():
            enum.value.add(name=f"{prefix}_{value}", number=number)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind, of, repeated) in enumerate(fields, 1):
            full = f"{of}Scope.{of}" if kind == _ENUM else of
            if full and not full.startswith("google."):
                full = f"{_PACKAGE}.{full}"
            message.field.add(
                name=field,
                number=number,
                type=kind,
                label=3 if repeated else 1,
                type_name=f".{full}" if full else None,
            )
    entry = file.message_type[-1].nested_type.add(name="ZoneInstanceTypesEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=_STRING, label=1)
    types = f".{_PACKAGE}.InstanceTypes"
    entry.field.add(name="value", number=2, type=_MESSAGE, label=1, type_name=types)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(_timestamp.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in ("OneClaim", "ManyClaims", "Parameters")
    }


SCHEMA = _schema()
ANSWERS = {"list": "ManyClaims", "parameters": "Parameters"}


def decode(operation: str, text: str) -> dict[str, Any]:
    """Decode strictly; returns what the official encoder makes of the message."""
    message = SCHEMA[ANSWERS.get(operation, "OneClaim")]()
    json_format.Parse(text, message, ignore_unknown_fields=False)
    written: dict[str, Any] = json_format.MessageToDict(message)
    return written


def test_the_schema_accepts_output_of_the_official_encoder() -> None:
    text = OFFICIAL.read_text()
    assert len(decode("list", text)["capacityClaims"]) == 4


def test_the_schema_refuses_unknown_fields_and_values() -> None:
    for text in (
        '{"capacityClaim": {"spec": {"labels": {}}}}',
        '{"capacityClaim": {"status": {"status": "STATUS_PAUSED"}}}',
        '{"capacityClaim": {"status": {"allocatedInstances": -1}}}',
        '{"capacityClaim": {"status": {"createdAt": "today"}}}',
    ):
        with pytest.raises(json_format.ParseError):
            decode("get", text)


def test_the_emulator_writes_a_claim_as_the_official_encoder_does() -> None:
    official = json.loads(OFFICIAL.read_text())
    official_claim = official["capacityClaims"][1]
    with Emulator(EmulatorSettings(organization_id="cw0a1b")) as emulator:
        headers = {"Authorization": f"Bearer {emulator.token}"}
        with httpx.Client(base_url=emulator.url, headers=headers) as http:
            spec = official_claim["spec"]
            body = {key: spec[key] for key in ("id", "name", "resources")}
            assert http.post(CLAIMS, json=body).status_code == 200
            claim = http.get(f"{CLAIMS}/{spec['id']}").json()["capacityClaim"]
    for each in (claim["status"], official_claim["status"]):
        each["createdAt"] = each["updatedAt"] = "-"
        for condition in each["conditions"]:
            condition["lastUpdateTime"] = "-"
    assert claim == official_claim


@pytest.mark.parametrize("omit_zeros", [True, False])
@pytest.mark.parametrize("shortage", ["creating", "error", "failed"])
def test_a_strict_decoder_accepts_every_response_of_a_scenario(omit_zeros: bool, shortage: Any) -> None:
    chosen = EmulatorSettings(
        inventory={"US-WEST-04A": {"gb200-4x": 2}, "US-EAST-04A": {"gb200-4x": 1}, "RNO2A": {}},
        allocation_delay=2,
        allocation_spread=1,
        delete_delay=3,
        shortage=shortage,
        shortage_failed_after=0.5,
        omit_zeros=omit_zeros,
    )
    seen: set[str] = set()
    with Emulator(chosen) as emulator:
        headers = {"Authorization": f"Bearer {emulator.token}"}
        http = httpx.Client(base_url=emulator.url, headers=headers)

        def call(operation: str, method: str, path: str = "", body: object = None) -> None:
            response = http.request(method, CLAIMS + path, json=body)
            assert response.status_code == 200, response.text
            decoded = decode(operation, response.text)
            if omit_zeros:
                again = json.loads(response.text)
                assert decoded == again
            claims = decoded.get("capacityClaims", [decoded.get("capacityClaim", {})])
            seen.update(each["status"]["status"] for each in claims if each)

        def resources(count: int) -> dict[str, object]:
            zones = ["US-WEST-04A", "US-EAST-04A"]
            common = {"instanceId": "gb200-4x", "capacityType": "CAPACITY_TYPE_MANAGED"}
            return {**common, "zones": zones, "instanceCount": count}

        def read_all() -> None:
            for _ in range(4):
                call("list", "GET")
                for each in emulator.claims():
                    call("get", "GET", f"/{each.id}")
                emulator.advance_clock(1.000000001)

        with http:
            call("parameters", "GET", "/parameters")
            call("list", "GET")
            call("create", "POST", "", {"id": ID, "name": "a", "resources": resources(2)})
            read_all()
            call("create", "POST", "", {"id": OTHER, "name": "b", "resources": resources(3)})
            read_all()
            call("update", "PATCH", f"/{ID}", {"id": ID, "resources": resources(0)})
            read_all()
            call("delete", "DELETE", f"/{ID}")
            call("delete", "DELETE", f"/{OTHER}")
            read_all()
            call("list", "GET")
    forms = {"error": {"STATUS_ERROR"}, "failed": {"STATUS_FAILED"}, "creating": set[str]()}
    always = {"STATUS_CREATING", "STATUS_UPDATING", "STATUS_DELETING", "STATUS_READY"}
    assert seen == always | forms[shortage]


# The OpenAPI document

_LOADED = schemathesis.openapi.from_path(HERE / "openapi.yaml")


@pytest.fixture(scope="module")
def fuzzed() -> Any:
    with Emulator(EmulatorSettings(inventory={"RNO2A": {"gb200-4x": 8}})) as emulator:
        yield emulator


# Left out are checks of input that protobuf JSON accepts beyond the document ("4", null, snake_case),
# of input that only the catalogue refuses, and of unknown methods, which get 501, not 405.
_CHECKS = [
    schemathesis.checks.CHECKS.get_one(name)
    for name in (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "ignored_auth",
    )
]


@_LOADED.parametrize()
@settings(max_examples=25, deadline=None, derandomize=True)
def test_every_response_conforms_to_the_openapi_document(case: schemathesis.Case, fuzzed: Emulator) -> None:
    headers = {"Authorization": f"Bearer {fuzzed.token}"}
    if case.method.upper() != case.operation.method.upper():
        refused = case.call(base_url=fuzzed.url, headers=headers)
        assert refused.status_code == 501
        assert case.operation.method.upper() in refused.headers["allow"][0]
        return
    case.call_and_validate(base_url=fuzzed.url, headers=headers, checks=_CHECKS)
