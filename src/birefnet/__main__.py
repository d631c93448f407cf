"""`python -m birefnet` is the command `birefnet`."""

from __future__ import annotations

from birefnet.cli.main import main

if __name__ == "__main__":
    main()
