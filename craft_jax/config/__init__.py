"""Configurations: rules, files and overrides, the command line."""
