"""The verbs of the command line as functions: ``run(args) -> result``, without printing or parsing."""
