"""The command line of rokctl: parse, one use case, render."""
