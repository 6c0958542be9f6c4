"""What goes wrong, how often, and how often it did already.

The only memory of the scripted model: how many faults a step of a conversation has had. It is bounded, and a
step that was answered at last is forgotten, so the same scenario fails in the same way again.
"""

from collections import OrderedDict

from .scenario import Cut, Failure, Step, StreamError

Fault = Failure | Cut | StreamError


class Attempts:
    """Counts faults by the place where they happened; the longest unused place is forgotten first."""

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._counts: OrderedDict[bytes, int] = OrderedDict()

    def next_fault(self, step: Step, place: bytes) -> tuple[Fault | None, int]:
        """The fault to play now, None when the step is to be answered; and how many came before it."""
        done = self._counts.pop(place, 0)
        fault = _fault_after(step, done)
        if fault is not None:
            self._counts[place] = done + 1
            if len(self._counts) > self._limit:
                self._counts.popitem(last=False)
        return fault, done


def _fault_after(step: Step, done: int) -> Fault | None:
    """The faults of a step come in this order, each as often as it says."""
    for fault in (step.error, step.cut, step.sse_error):
        if fault is None:
            continue
        if fault.times is None or done < fault.times:
            return fault
        done -= fault.times
    return None
