"""The scripted model: an offline Messages API that answers from a script, and without one gives a demonstration.

It ships with CC-Docker: the gateway uses it where no key is set, and users test their integrations with it. It
imports nothing else of the gateway. From the bottom: scenario (the models), source (finding and reading them),
conversation (where in the script we are), template, reply, sse, attempts, demo (all pure); player and app (I/O).

A scenario stands in a prompt, in a fenced block whose fences have lines of their own (or in a file of rules,
`[{"match": REGEX | null, "steps": [...]}]`):

    ```scenario
    [{"thinking": "hm"},
     {"blocks": [{"text": "Looking."}, {"tool": "Bash", "input": {"command": "echo hi"}}]},
     {"text": "It said {{last_tool_result}}", "chunk_delay_ms": 20, "error": {"status": 529, "times": 1}}]
    ```

One step is one response. After the last the model says "done".
"""

from .app import create_scripted_app
from .scenario import Block, Cut, Failure, Rule, Scenario, Step, StreamError
from .source import ScenarioError, load_scenario_file, parse_scenario, parse_script

__all__ = [
    "Block",
    "Cut",
    "Failure",
    "Rule",
    "Scenario",
    "ScenarioError",
    "Step",
    "StreamError",
    "create_scripted_app",
    "load_scenario_file",
    "parse_scenario",
    "parse_script",
]
