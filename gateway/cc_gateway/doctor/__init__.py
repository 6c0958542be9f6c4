"""`cc-docker doctor`: whether sessions can run here, what is wrong where they cannot, and the command that mends it.

It changes nothing: no migration, no folder, no server. It works before the first start, beside a gateway that runs (which
has locked its data folder), and in the gateway's own container. `check` says what a check is and runs all of them at once;
the other modules hold the checks, one a subject; `examination` chooses among them, and `report` writes it down.
"""
