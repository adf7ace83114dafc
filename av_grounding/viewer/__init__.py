"""The live page: a Sink that shows every answer in a browser."""
