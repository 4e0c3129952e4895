"""The commands, one a file: `jaxvision.cli.command` finds them here."""
