"""The page at `/`, on which people see and control the emulator.

It is rendered here, and every form is a call of the control API. The page loads nothing from elsewhere.
"""
