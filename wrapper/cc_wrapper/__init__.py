"""The wrapper: it lives in a session's container, drives one `claude` process and reports what that does.

    __main__      start-up, signals, exit code
    session       the conductor: prompts in, entries out, one `claude` after another
      life        one `claude` process from its start to its death
      chooser     model and permission mode, and changes of them
      turns       each prompt once, one at a time; `interrupter` ends one before its time
      turn        one prompt from its start to its end (pure)
      reporter    entries for the outbox
    translate/    lines of the CLI into events of the protocol (pure)
    claude/       the process: command line, pipes, control requests, identity, orphans
    setup/        the user's script that runs before it
    configure/    what is generated for it before it starts
    forwarder/    127.0.0.1 to the gateway's socket, with the token
    wire/         Redis: the outbox, the previews, the commands

Below it lies `cc_protocol` alone. It knows neither the gateway nor what a driver is, keeps nothing on disk but what
`claude` keeps, and believes nothing that it reads.
"""
