"""Pages of the documentation that are made from the code: commands, settings, errors. ``hooks.py`` adds them to the site."""

GENERATED = (
    "cli.md",
    "configuration.md",
    "troubleshooting.md",
    "changelog.md",
    "contributing.md",
    "index.md",
    "threat-model.md",
)
"""Pages of the site that are no files of ``docs``."""
