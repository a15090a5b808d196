"""`python -m trm` is `trm`: what `accelerate launch -m trm train …` runs."""

from trm.cli import main

main()
