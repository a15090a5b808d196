"""Where language models' weights come from and are kept."""
