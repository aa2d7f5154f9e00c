"""The commands of kalec, one to a file: parse, one use case, render."""
