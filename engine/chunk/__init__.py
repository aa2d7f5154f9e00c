"""Bytes to chunks: where to cut, what to call the pieces, how to pack them. Pure."""
