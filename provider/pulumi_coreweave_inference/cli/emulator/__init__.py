"""`capacity-claims emulator`: runs an emulator of the API, and controls one that runs."""
