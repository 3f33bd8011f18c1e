"""Connects the searchers to other tools: each module needs the package it is named after, and an extra installs it."""
