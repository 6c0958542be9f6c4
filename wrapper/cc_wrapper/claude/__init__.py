"""One `claude` process: what it is started with, its pipes, its control requests, and what it leaves behind."""
