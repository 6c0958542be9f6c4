"""`scripts/bench`: what CC-Docker costs, measured side by side with what it is made of, in one run.

    __main__      options, the order of things, the end
    figures       figures and how they are summed up (pure)
    report        the table and the JSON file; `conditions`: under which circumstances
    world         what is measured: a gateway as its user starts it, its Redis, the model behind it
    bare          the baseline: the same `claude`, with the same flags, spoken to directly
    places        where the bare `claude` runs: as a process, or in a container
    player        a wrapper's entries, played into its outbox
    listening     a process full of listeners; `listeners` starts it
    stamping      a shim around `claude` that notes when each line left it
    measure/      one module a subject

Every measurement alternates the two sides of its comparison, so that a machine that slows down slows down both.
"""
