"""The engine of rokctl: no terminal, no printing, no exits."""
