"""One vLLM from its command line to its end, as the launcher needs it."""
