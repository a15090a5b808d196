"""`python -m hybrid` is `hybrid`."""

from hybrid.cli import main

main()
