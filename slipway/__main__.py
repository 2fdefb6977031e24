"""The `slipway` command; `python -m slipway` is the same."""


def main() -> None:
    """Run the command line; `import slipway` has put our packages on the path before."""
    from cli.main import app

    app()


if __name__ == "__main__":
    main()
