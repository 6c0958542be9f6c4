"""Lines of the CLI into events of the protocol: pure, total, without I/O.

line        bytes into JSON, whatever they hold
translator  the one that is called for each line
  stream    what streams: spans of model requests, previews
  blocks    content: messages, thinking, tool calls and their results
  outcome   `result` lines: usage, cost, errors
meaning     what comes out
"""
