"""`capacity-claims review`: what a preview is about to do to capacity claims, for the person who approves it.

    JSON ─ preview ─► Plan ─┬─ rules ──────► broken rules ─┐
                            ├─ prices ─────► cost          ├─► Review ─┬─ json_report ─► JSON
                            └─ fingerprint ► fingerprint  ─┘           └─ document ─┬─ markdown ─► comment
                                                                                    └─ terminal ─► table

Everything but `command` is a function from values to values.
"""
