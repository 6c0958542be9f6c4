"""What events look like to a person: pure functions and small state machines from events to styled text, no I/O."""
