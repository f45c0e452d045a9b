"""The questions about the API as options: all of them, with what their answers may be."""

from __future__ import annotations

import pytest

from coreweave_inference.emulator import EmulatorSettings
from coreweave_inference.emulator.variants import VARIANTS, parse_variants


def test_every_default_is_what_the_settings_have() -> None:
    defaults = EmulatorSettings()
    for name, variant in VARIANTS.items():
        assert variant.parse(variant.default) == getattr(defaults, name), name


def test_every_variant_asks_a_question() -> None:
    assert len(VARIANTS) > 15
    for name, variant in VARIANTS.items():
        assert "? " in variant.question, name


def test_answers_have_the_type_of_their_setting() -> None:
    given = [
        "shortage=error",
        "omit-zeros=false",
        "list_lag = 2.5",
        "max_zones=1",
        "patchable_fields=zones,instanceCount",
        "error_form=status",
    ]
    settings = EmulatorSettings(**parse_variants(given))
    assert (settings.shortage, settings.omit_zeros, settings.list_lag) == ("error", False, 2.5)
    assert (settings.max_zones, settings.error_form) == (1, "status")
    assert settings.patchable_fields == {"zones", "instanceCount"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("shortage", "write it as name=answer"),
        ("shortages=error", "there is no variant 'shortages'; the variants are error_form, "),
        ("shortage=none", "variant shortage: must be creating or error or failed, not 'none'"),
        ("omit_zeros=maybe", "must be true or false, not 'maybe'"),
        ("list_lag=-1", "must be a number of seconds, not '-1'"),
        ("list_lag=nan", "must be a number of seconds, not 'nan'"),
        ("max_zones=0", "must be a number from 1 or none, not '0'"),
        ("patchable_fields=zone", "must be any of capacityType,instanceCount,instanceId,zones, not 'zone'"),
        ("token=x", "there is no variant 'token'"),
    ],
)
def test_other_answers_are_refused_with_the_possible_ones(given: str, message: str) -> None:
    with pytest.raises(ValueError, match="variant") as raised:
        parse_variants([given])
    assert message in str(raised.value)


def test_two_answers_to_one_question_are_refused() -> None:
    with pytest.raises(ValueError, match="variant shortage: is given twice"):
        parse_variants(["shortage=error", "shortage=failed"])
