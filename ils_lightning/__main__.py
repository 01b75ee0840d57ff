"""`python -m ils_lightning`: train, evaluate and compare from the shell."""

from ils_lightning.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
