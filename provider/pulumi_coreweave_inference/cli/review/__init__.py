"""`capacity-claims review`: what a preview does to capacity claims, for the person who approves it.

    JSON ─ preview ─► Plan ─┬─ rules ──────► violations ──┐
                            ├─ prices ─────► cost         ├─► Review ─┬─ json_report ─► JSON
                            └─ fingerprint ► fingerprint ─┘           └─ document ─┬─ markdown ─► comment
                                                                                   └─ terminal ─► table

All modules but `command` are pure functions; `toml_model` reads the files of rules and prices.
"""
