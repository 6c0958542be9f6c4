"""How a session gets a place to run: `base` is the contract, each other module one way to fulfil it.

Nothing above this floor may know which driver is in use; drivers never import one another.
"""
