"""Two runs of a flow side by side, whichever orchestrators they ran on."""
