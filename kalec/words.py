"""Tables of words, written as prose is: in lines, not one to a line."""


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())
