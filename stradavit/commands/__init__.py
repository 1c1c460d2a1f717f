"""The subcommands of `stradavit`, each beside what it takes."""
