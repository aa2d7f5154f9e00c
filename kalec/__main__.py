"""The program `kalec`."""


def main() -> None:
    """Run the command line and exit with its code."""
    from kalec.cli import app

    app(prog_name="kalec")


if __name__ == "__main__":
    main()
