"""Where steps run: one package for each platform."""
